"""An extension for mkdocstrings that converts this project's docstrings to Google style."""

import re

import griffe

_SEVERAL = re.compile(r"^( +)((?:\w+, )+\w+):(.*(?:\n\1 +.*)*)", flags=re.MULTILINE)


class HouseStyle(griffe.Extension):
    """Converts each docstring to Google style, before it is parsed.

    `Example:` becomes `Examples:`, so that lines with `>>>` are shown as code. An entry for several
    names, `a, b: description`, becomes an entry for each name. An unindented paragraph that
    contains three or more spaces in a row, such as an equation, becomes a code block.
    """

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring:
            text = re.sub(r"(?m)^Example:$", "Examples:", obj.docstring.value)
            text = _SEVERAL.sub(self._one_by_one, text)
            obj.docstring.value = "\n\n".join(map(self._as_it_stands, text.split("\n\n")))

    @staticmethod
    def _one_by_one(entry: re.Match) -> str:
        indent, names, description = entry.groups()
        return "\n".join(f"{indent}{name}:{description}" for name in names.split(", "))

    @staticmethod
    def _as_it_stands(paragraph: str) -> str:
        lines = paragraph.splitlines()
        at_margin = all(line[:1].strip() for line in lines)
        if at_margin and any(re.search(r"\S {3,}\S", line) for line in lines):
            return "\n".join("    " + line for line in lines)
        return paragraph
