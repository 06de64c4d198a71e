"""What the docstrings of this project are to mkdocstrings."""

import re

import griffe

_SEVERAL = re.compile(r"^( +)((?:\w+, )+\w+):(.*(?:\n\1 +.*)*)", flags=re.MULTILINE)


class HouseStyle(griffe.Extension):
    """Google's style, but for three habits.

    `Example:` is `Examples:`, whose lines with `>>>` are code; `a, b: what they are` describes
    each; and a paragraph that sets its parts apart by three spaces or more is an equation, to be
    shown as it stands.
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
