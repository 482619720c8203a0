"""The model of this process, and what a lake remembers of the models it was made with.

The settings name one file; it is read and judged when it is asked for, never at import. A lake keeps every model that
ever made its objects as `models/{digest}.json`, written once: a digest in a footer can be looked up, and a dimension
that is declared no more is still known by its ALL word.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from engagement.lake import AlreadyExists, Lake
from engagement.model import expressions
from engagement.model.model import Model, ModelError, built_in, canonical, parse
from engagement.settings import Settings

FOLDER = "models"


def load(settings: Settings) -> Model:
    """The built-in model and what the file of ENGAGEMENT_MODEL adds, if there is one.

    Raises ModelError.
    """
    if not settings.model:
        return built_in()
    path = Path(settings.model)
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise ModelError(f"ENGAGEMENT_MODEL={path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: not readable: {error}") from error
    return _judged(text, path)


_JUDGED: dict[tuple[Path, str], Model] = {}
"""Models by file and text: the page and the sensor ask every few seconds."""


def _judged(text: str, path: Path) -> Model:
    if (path, text) not in _JUDGED:
        _JUDGED[path, text] = expressions.check(parse(text, path.name), path.name)
    return _JUDGED[path, text]


def remember(lake: Lake, model: Model) -> dict[str, str]:
    """Note the model in the lake; returns the retired dimensions, those of older models that it lacks, with their ALL words.

    Raises ModelError where the model cannot be read together with an older one.
    """
    found = retired(lake, model)
    key = f"{FOLDER}/{model.digest}.json"
    if lake.stat(key) is None:
        with contextlib.suppress(AlreadyExists):
            lake.put_new(key, (json.dumps(canonical(model), indent=2) + "\n").encode())
    return found


def retired(lake: Lake, model: Model) -> dict[str, str]:
    """Dimensions of older models of this lake that the model lacks, with their ALL words; raises ModelError as `remember`."""
    gone: dict[str, str] = {}
    for entry in lake.list(FOLDER):
        for name, (_, word) in json.loads(lake.read(entry.key) or b"{}").get("dimensions", {}).items():
            if name in model.metrics:
                raise ModelError(f"[metrics.{name}] {name} was a dimension of this lake: choose another name")
            if name not in model.dimensions:
                gone[name] = word
            elif model.dimensions[name].all != word:
                raise ModelError(f"[dimensions.{name}] all = {model.dimensions[name].all!r}: rows of this lake say {word}, keep the word")
    return gone
