"""What of a source is run, which some of its mutants do not differ in."""

import ast


def running(source: str) -> str | None:
    """What of a source is run, in a form to compare; None for no Python."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    return ast.dump(_WhatRuns().visit(tree))


class _WhatRuns(ast.NodeTransformer):
    """Leaves out annotations, and how arguments may be spelt."""

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        # The star before those that go by name looks like a product.
        node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
        node.defaults += [default for default in node.kw_defaults if default]
        node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)
