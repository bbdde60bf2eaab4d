"""What an operator may change while its node runs: `quorate-node class join | leave` write it into HOME/config.json."""

from __future__ import annotations

from pathlib import Path

from quorate.protocol.errors import ConfigurationError
from quorate_node.config import CONFIG_FILE, NodeConfig, load_config
from quorate_node.core.state import Settings
from quorate_node.core.stimuli import ClassesChosen


def choose_classes(config: NodeConfig) -> ClassesChosen:
    """The classes that a node keeps alive, and the profiles that it runs: WebAssembly it always does."""
    described = {each.digest for each in config.descriptions}
    return ClassesChosen(config.classes, Settings().profiles | described)


class ConfigFollower:
    """Looks whether a node's configuration names other classes or profiles than before."""

    def __init__(self, config: NodeConfig) -> None:
        self._home, self._last = config.home, choose_classes(config)
        self._seen = _look(config.home)

    def poll(self) -> ClassesChosen | None:
        """What is chosen now, if that is not what was; None, too, for a file that is gone.

        Raises ConfigurationError once for one that is wrong: what was chosen stays.
        """
        seen = _look(self._home)
        if seen is None or seen == self._seen:
            return None
        self._seen = seen
        chosen = choose_classes(load_config(self._home))
        if chosen == self._last:
            return None
        self._last = chosen
        return chosen


def _look(home: Path) -> tuple[int, int, int] | None:
    """What tells one state of the file from another; commands replace it as a whole."""
    try:
        status = (home / CONFIG_FILE).stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{home / CONFIG_FILE} cannot be read: {error.strerror}") from error
    return status.st_ino, status.st_mtime_ns, status.st_size
