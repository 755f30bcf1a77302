"""Every small fault of a few kinds that a program can write into one Python file: for finding what no test notices.

What survives is read by a person: a fault that a user could see gets a test and goes into the lists.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from .mutant import Mutant

OTHER = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.In: "not in",
         ast.NotIn: "in", ast.Is: "is not", ast.IsNot: "is"}  # fmt: skip
TURNED = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*", ast.FloorDiv: "/", ast.Mod: "*"}
Span = tuple[int, int]


def small_faults(root: Path, file: str, tests: tuple[str, ...]) -> list[Mutant]:
    """Faults in conditions, comparisons, numbers, operators, keyword arguments and statements; the whole file each."""
    text = (root / file).read_text()
    starts = [0]
    for line in text.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    data = text.encode()
    mutants = []
    for node, span, new in _faults(ast.parse(text), data, starts):
        old = data[span[0] : span[1]].decode()
        mutated = (data[: span[0]] + new.encode() + data[span[1] :]).decode()
        name = f"line {node.lineno}: {_one_line(old)} -> {_one_line(new)}"
        if _is_python(mutated):
            mutants.append(Mutant("sweep", name, file, text, mutated, tests))
    return mutants


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _one_line(text: str) -> str:
    return " ".join(text.split())[:70]


def _faults(tree: ast.AST, data: bytes, starts: list[int]) -> Iterator[tuple[ast.expr | ast.stmt, Span, str]]:
    def span(node: ast.expr | ast.stmt) -> Span:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset

    def source(node: ast.expr) -> str:
        return data[slice(*span(node))].decode()

    for node in _outside_texts(tree):
        if isinstance(node, (ast.If, ast.IfExp, ast.While)):
            yield node.test, span(node.test), "False"
            if not isinstance(node, ast.While):
                yield node.test, span(node.test), "True"
        elif isinstance(node, ast.Compare) and len(node.ops) == 1:
            yield node, span(node), f"({source(node.left)}) {OTHER[type(node.ops[0])]} ({source(node.comparators[0])})"
        elif isinstance(node, ast.BoolOp):
            word = " and " if isinstance(node.op, ast.And) else " or "
            for left_out in node.values:
                yield (
                    node,
                    span(node),
                    f"({word.join(f'({source(one)})' for one in node.values if one is not left_out)})",
                )
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
            yield node, span(node), f"({source(node.operand)})"
        elif isinstance(node, ast.BinOp) and type(node.op) in TURNED:
            yield node, span(node), f"(({source(node.left)}) {TURNED[type(node.op)]} ({source(node.right)}))"
        elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            new = str(not node.value) if isinstance(node.value, bool) else str(node.value + 1)
            yield node, span(node), new
        elif isinstance(node, ast.Call):
            for keyword in node.keywords if len(node.keywords) > 1 or node.args else []:
                if keyword.arg is not None:
                    first, last = starts[keyword.lineno - 1] + keyword.col_offset, span(keyword.value)[1]
                    comma = data[last:].lstrip().startswith(b",")
                    yield keyword.value, (first, last + (data[last:].index(b",") + 1 if comma else 0)), ""
        elif isinstance(node, (ast.Expr, ast.AugAssign)) and not isinstance(getattr(node, "value", None), ast.Constant):
            yield node, span(node), "pass"
        elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
            yield node, span(node), "return None"
        elif isinstance(node, ast.Tuple) and _is_rule(node):
            yield node.elts[0], span(node.elts[0]), "False"


def _outside_texts(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all below it but for f-strings, inside which Python 3.11 and earlier give no positions."""
    yield node
    if not isinstance(node, ast.JoinedStr):
        for child in ast.iter_child_nodes(node):
            yield from _outside_texts(child)


def _is_rule(node: ast.Tuple) -> bool:
    """Whether a tuple looks like one of `errors.refuse`: (condition, sentence)."""
    sentence = node.elts[1] if len(node.elts) == 2 else None
    return isinstance(sentence, ast.JoinedStr) or (
        isinstance(sentence, ast.Constant) and isinstance(sentence.value, str)
    )
