"""An extension for Sphinx that writes equations as MathML, so that pages need no JavaScript."""

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml


def _visit(translator, node: nodes.Element) -> None:
    block = isinstance(node, nodes.math_block)
    equation = tex2mathml(node.astext(), as_block=block)
    translator.body.append(f'<div class="equation">{equation}</div>' if block else equation)
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (_visit, None), (_visit, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
