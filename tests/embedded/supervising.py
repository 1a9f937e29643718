"""Owns the data folder given as its argument and supervises one small server there, as `auterity up` does."""

import asyncio
import sys
from pathlib import Path

from auterity_dagster.embedded.backoff import Backoff
from auterity_dagster.embedded.data_folder import DataFolder, owned, write_record
from auterity_dagster.embedded.processes import MARK
from auterity_dagster.embedded.supervised_service import Service
from auterity_dagster.embedded.supervisor import Supervisor

folder = DataFolder(Path(sys.argv[1]))
mark = folder.root.name


async def probe() -> bool:
    return (folder.root / "server" / "healthy").exists()


server = Service(
    name="server",
    command=(sys.executable, str(Path(__file__).parent / "small_server.py"), "escaping", str(folder.root / "server")),
    environment={MARK: mark},
    probe=probe,
    log=folder.logs / "server.log",
)


async def supervise() -> None:
    await Supervisor(
        (server,),
        (),
        mark=mark,
        backoff=Backoff(),
        announce=lambda _name, _text: None,
        changed=lambda processes: write_record(folder, mark=mark, processes=processes),
        all_healthy=(folder.root / "ready").touch,
    ).run()


folder.prepare()
with owned(folder):
    asyncio.run(supervise())
