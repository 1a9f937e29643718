"""What the readers of both chat wires find in a body beside its text, and how they note what they do not know."""

from collections.abc import Set as AbstractSet


class BodyFindings:
    """Pictures, and what the other wire has no word for; `droppable_keys` are those that do not change the meaning."""

    __slots__ = ("_droppable_keys", "droppable", "image_bytes", "images", "untranslatable")

    def __init__(self, droppable_keys: frozenset[str]) -> None:
        self._droppable_keys = droppable_keys
        self.images = self.image_bytes = 0
        self.untranslatable: list[str] = []
        self.droppable: dict[str, None] = {}

    def note_further(self, keys: AbstractSet[str], place: str) -> None:
        """What is not known may mean anything: only its own wire can honour it. Its name stays out of what we say."""
        for key in keys:
            if key in self._droppable_keys:
                self.droppable[f"messages.{key}"] = None
            else:
                self.untranslatable.append(place)
