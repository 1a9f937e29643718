import os
import socket

import pytest

from auterity_dagster.embedded.addresses import Ports, choose_free
from auterity_dagster.embedded.ports import is_free
from auterity_dagster.errors import ConfigurationInvalid


def test_a_taken_port_is_named_with_who_needs_it_who_has_it_and_the_option_that_changes_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]

        with pytest.raises(ConfigurationInvalid) as raised:
            choose_free({"model_server": taken}).require_free()

    assert f"port {taken} is taken by process {os.getpid()}" in raised.value.message
    assert "model_server needs it" in raised.value.message
    assert "--model-server-port" in raised.value.message


def test_free_ports_pass_and_are_all_different() -> None:
    ports = choose_free({})

    ports.require_free()

    assert len(set(ports.options())) == 12


def test_a_wanted_port_is_kept_when_the_others_are_chosen() -> None:
    assert choose_free({"api": 8401}).api == 8401


def test_one_port_asked_for_twice_is_refused() -> None:
    with pytest.raises(ConfigurationInvalid, match="asked for twice"):
        Ports(gateway=8400, api=8400).require_free()


def test_a_port_is_free_again_when_its_server_is_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(port)

    assert is_free(port)
