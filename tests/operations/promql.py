"""A reader of the part of PromQL that our alerting rules use: what an expression measures, or where it is wrong."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

TOKEN = re.compile(
    r'\s*("[^"]*"|\d+[smhdw]\b|\d+(?:\.\d+)?|[a-zA-Z_:][\w:]*|=~|!~|!=|==|>=|<=|[-+*/<>={}()\[\],])|\s*(\S)|\s+$'
)
AGGREGATIONS = {"sum", "max", "min", "avg", "count"}
OF_RANGES = {"increase", "rate", "max_over_time"}
FUNCTIONS = {"absent", "time", *OF_RANGES}
BINARY = {"or", "and", "unless", "==", "!=", ">", "<", ">=", "<=", "+", "-", "*", "/"}
OF_TARGETS = {"job", "instance"}
"""Labels that Prometheus adds to every sample."""


class Wrong(Exception):
    """The expression is not PromQL, or names what does not exist."""


@dataclass
class Expression:
    """Reads one expression. `labels_of`: the labels of each metric that exists. `metrics`: those that it names."""

    text: str
    labels_of: Mapping[str, frozenset[str]]
    metrics: set[str] = field(default_factory=set)

    def read(self) -> set[str]:
        """Return the metrics of the expression. Raise Wrong."""
        self._tokens = list(self._split())
        self._expression()
        if self._tokens:
            raise Wrong(f"{self._tokens[0]} is left over")
        return self.metrics

    def _split(self) -> Iterator[str]:
        for found in TOKEN.finditer(self.text):
            if found[2]:
                raise Wrong(f"{found[2]} has no meaning here")
            if found[1]:
                yield found[1]

    def _next(self, *wanted: str) -> str:
        if not self._tokens or (wanted and self._tokens[0] not in wanted):
            raise Wrong(f"{' or '.join(wanted) or 'more'} is expected before {self._tokens[:1]}")
        return self._tokens.pop(0)

    def _is_next(self, token: str) -> bool:
        return self._tokens[:1] == [token]

    def _expression(self) -> set[str]:
        labels = self._operand()
        while self._tokens and self._tokens[0] in BINARY:
            self._next()
            labels |= self._operand()
        return labels

    def _operand(self) -> set[str]:
        """Read an operand, and return the labels of its samples."""
        token = self._next()
        if token == "(":
            labels = self._expression()
            self._next(")")
            return labels
        if re.fullmatch(r"\d+(\.\d+)?", token):
            return set()
        if token in AGGREGATIONS:
            return self._aggregation()
        if self._is_next("("):
            return self._call(token)
        return self._selector(token)

    def _aggregation(self) -> set[str]:
        kept = set()
        if self._is_next("by"):
            self._next()
            self._next("(")
            while not self._is_next(")"):
                kept.add(self._next())
                if not self._is_next(")"):
                    self._next(",")
            self._next(")")
        self._next("(")
        labels = self._expression()
        self._next(")")
        if unknown := kept - labels - OF_TARGETS:
            raise Wrong(f"no sample has the label {', '.join(sorted(unknown))}")
        return kept

    def _call(self, name: str) -> set[str]:
        if name not in FUNCTIONS:
            raise Wrong(f"there is no function {name}")
        self._next("(")
        labels: set[str] = set() if name == "time" else self._expression()
        if (name in OF_RANGES) != self._is_next("["):
            raise Wrong(f"{name} takes {'a range' if name in OF_RANGES else 'no range'}")
        if name in OF_RANGES:
            self._range()
        self._next(")")
        return labels

    def _range(self) -> None:
        self._next("[")
        if not re.fullmatch(r"\d+[smhdw]", length := self._next()):
            raise Wrong(f"{length} is no duration")
        self._next("]")

    def _selector(self, metric: str) -> set[str]:
        if metric not in self.labels_of:
            raise Wrong(f"there is no metric {metric}")
        self.metrics.add(metric)
        if self._is_next("{"):
            self._next()
            while not self._is_next("}"):
                if (label := self._next()) not in self.labels_of[metric]:
                    raise Wrong(f"{metric} has no label {label}")
                self._next("=", "!=", "=~", "!~")
                if not self._next().startswith('"'):
                    raise Wrong(f"the value of {label} is not in quotation marks")
                if not self._is_next("}"):
                    self._next(",")
            self._next("}")
        return set(self.labels_of[metric])
