"""An extension for Sphinx that converts this project's docstrings to reStructuredText.

Napoleon converts their sections. This extension adds what the house style leaves out: equations,
which are indented or spaced paragraphs, become literal blocks; bars in |lambda| are not markup; and
a Flax module shows the signature of its call, also if it inherits the call.
"""

import inspect
import re
import textwrap
from collections import namedtuple

import flax.linen as nn
from flax import nnx
from sphinx.util.inspect import signature, stringify_signature

import lru.baselines
import lru.models
import lru.nnx

_MODULES = (nn.Module, nnx.Module)
_PACKAGES = (lru, lru.models, lru.baselines, lru.nnx)
_properties: dict[str, list[str]] = {}  # converted docstrings, by name
_FIELD = type(namedtuple("_Pair", "first").first)


def convert(app, what, name, obj, options, lines: list[str]) -> None:
    """Converts a docstring in place, before Napoleon does."""
    text = "\n".join(lines)
    text = re.sub(r"(?m)^Attributes: (.+ and)$", r"The attributes are \1:\n\nAttributes:", text)
    text = re.sub(r"(`[^`\n]+`)(?=\w)", r"\1\\ ", text)  # a letter after a name ends no markup
    paragraphs = re.split(r"\n{2,}", text)
    text = "\n\n".join(_as_literal(paragraph) for paragraph in paragraphs)
    if inspect.isclass(obj) and issubclass(obj, _MODULES):
        text += _inherited_call(obj)
    lines[:] = text.splitlines() + [""]
    if what == "property":
        _properties[name] = list(lines)


def restore_property(app, what, name, obj, options, lines: list[str]) -> None:
    """Undoes Napoleon's change of a property: it takes the text before a colon for a type."""
    if what == "property":
        lines[:] = _properties.pop(name)


def _as_literal(paragraph: str) -> str:
    """Returns a literal block if the paragraph is an equation, otherwise text without bars."""
    lines = paragraph.splitlines()
    indented = all(line.startswith("    ") for line in lines) and ">>>" not in paragraph
    at_margin = all(line[:1].strip() for line in lines)
    spaced = at_margin and any(re.search(r"\S {3,}\S", line) for line in lines)
    if lines and (indented or spaced):
        return ".. code-block:: none\n\n" + textwrap.indent(textwrap.dedent(paragraph), "    ")
    return re.sub(r"(`[^`]*`)|\|", lambda match: match[1] or r"\|", paragraph)


def _inherited_call(module: type) -> str:
    """Returns the signature of a call that a module inherits, with a link to its description."""
    owner = next((base for base in module.__mro__ if "__call__" in vars(base)), module)
    if owner is module or not owner.__module__.startswith("lru."):
        return ""
    call = signature(owner.__call__, bound_method=True)
    shown = stringify_signature(call, show_annotation=False, show_return_annotation=False)
    return f"\n\n.. py:method:: __call__{shown}\n\n   See `{_public_name(owner)}.__call__`."


def _public_name(module: type) -> str:
    """Returns the name of a module in the package that exports it, if there is one."""
    exports = (package for package in _PACKAGES if module.__name__ in package.__all__)
    package = next((p for p in exports if getattr(p, module.__name__) is module), None)
    return f"{package.__name__ if package else module.__module__}.{module.__name__}"


def readable(app, what, name, obj, options, shown: str | None, returns) -> tuple | None:
    """Shows an NNX module's arguments; leaves out Linen's own ones and addresses of objects."""
    if shown is None:
        return None
    if inspect.isclass(obj) and issubclass(obj, nnx.Module):  # its metaclass takes any arguments
        call = signature(obj.__init__, bound_method=True)
        shown = stringify_signature(call, show_annotation=False, show_return_annotation=False)
    shown = re.sub(r"(, )?parent=<[^>]*>, name=None", "", shown)
    return re.sub(r"<class '([\w.]+)'>|<function (\w+) at \w+>", r"\1\2", shown), returns


def is_skipped(app, what, name, obj, skip, options) -> bool | None:
    """Skips the fields of named tuples: the docstring of the tuple describes them."""
    return True if isinstance(obj, _FIELD) else None


def setup(app):
    app.connect("autodoc-process-docstring", convert, priority=400)  # before Napoleon
    app.connect("autodoc-process-docstring", restore_property, priority=600)
    app.connect("autodoc-process-signature", readable)
    app.connect("autodoc-skip-member", is_skipped)
    return {"parallel_read_safe": True}
