"""`dataclass` and its companions as in the standard library, for a command that must start fast.

Two hundred classes are read at start and few of them are instantiated; the standard decorator compiles six methods for
each (0.36 ms a class, 38 ms of a build of which nothing is left to do; measured on CPython 3.11) and its import loads
inspect. This one compiles a method when it is first called. It is the subset that layersmith uses: no ``order``,
``InitVar`` or ``__post_init__``. Type checkers see the standard library's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import asdict as asdict
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import fields as fields
    from dataclasses import is_dataclass as is_dataclass
    from dataclasses import replace as replace
else:
    _FIELDS = "__layersmith_fields__"
    _MISSING = object()
    _set = object.__setattr__

    class Field:
        """One field: what `field` was given, and its ``name``."""

        __slots__ = ("compare", "default", "default_factory", "kw_only", "metadata", "name", "repr")

        def __init__(self, default, default_factory, repr_, compare, metadata, kw_only):
            self.name = ""
            self.default = default
            self.default_factory = default_factory
            self.repr = repr_
            self.compare = compare
            self.metadata = metadata
            self.kw_only = kw_only

    def field(
        *,
        default=_MISSING,
        default_factory=_MISSING,
        repr=True,
        compare=True,
        metadata=None,
        kw_only=False,
    ):
        """As `dataclasses.field`."""
        return Field(default, default_factory, repr, compare, metadata or {}, kw_only)

    def dataclass(cls=None, *, frozen=False, slots=False, eq=True):
        """As `dataclasses.dataclass`."""
        if cls is None:
            return lambda cls: _processed(cls, frozen, slots, eq)
        return _processed(cls, frozen, slots, eq)

    def _processed(cls, frozen, slots, eq):
        known = {}
        inherited = set()
        for base in cls.__mro__[-1:0:-1]:
            known.update(base.__dict__.get(_FIELDS, ()))
            inherited.update(base.__dict__.get("__slots__", ()))
        namespace = dict(cls.__dict__)
        for name, annotation in namespace.get("__annotations__", {}).items():
            if not str(annotation).startswith(("ClassVar", "typing.ClassVar")):
                given = namespace.get(name, _MISSING)
                if not isinstance(given, Field):
                    given = field(default=given)
                given.name = name
                known[name] = given
                if slots or given.default is _MISSING:
                    namespace.pop(name, None)
                else:
                    namespace[name] = given.default
        namespace[_FIELDS] = known
        namespace["__match_args__"] = tuple(name for name, one in known.items() if not one.kw_only)
        # The lazy methods put the compiled ones into the class, which is made only after them.
        made = []
        methods = {"__init__": _init, "__repr__": _repr}
        if eq:
            methods["__eq__"] = _eq
        if eq and frozen:
            methods["__hash__"] = _hash
        for method, source in methods.items():
            if method not in cls.__dict__:
                namespace[method] = _lazy(method, source, made, frozen)
        if eq and not frozen:
            namespace["__hash__"] = None
        if frozen:
            namespace["__setattr__"] = _refuse_set
            namespace["__delattr__"] = _refuse_delete
        namespace.pop("__dict__", None)
        namespace.pop("__weakref__", None)
        if slots:
            namespace["__slots__"] = tuple(name for name in known if name not in inherited)
            namespace["__getstate__"] = _getstate
            namespace["__setstate__"] = _setstate
        new = type(cls)(cls.__name__, cls.__bases__, namespace)
        new.__qualname__ = cls.__qualname__
        made.append(new)
        return new

    def _lazy(method, source, made, frozen):
        def stub(self, *args, **kwargs):
            cls = made[0]
            scope = {"_set": _set, "_factory": _MISSING}
            exec(source(cls.__dict__[_FIELDS].values(), scope, frozen), scope)
            compiled = scope[method]
            compiled.__qualname__ = f"{cls.__qualname__}.{method}"
            setattr(cls, method, compiled)
            return compiled(self, *args, **kwargs)

        return stub

    def _init(known, scope, frozen):
        parameters, keywords, body = [], [], []
        for one in known:
            name, value = one.name, one.name
            text = name
            if one.default_factory is not _MISSING:
                scope[f"_make_{name}"] = one.default_factory
                text += "=_factory"
                value = f"_make_{name}() if {name} is _factory else {name}"
            elif one.default is not _MISSING:
                scope[f"_default_{name}"] = one.default
                text += f"=_default_{name}"
            (keywords if one.kw_only else parameters).append(text)
            body.append(f"_set(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
        if keywords:
            parameters += ["*", *keywords]
        return f"def __init__({', '.join(['self', *parameters])}):\n " + ("\n ".join(body) or "pass")

    def _compared(known, who):
        return "(" + "".join(f"{who}.{one.name}, " for one in known if one.compare) + ")"

    def _eq(known, _scope, _frozen):
        return (
            "def __eq__(self, other):\n"
            " if other.__class__ is not self.__class__:\n  return NotImplemented\n"
            f" return {_compared(known, 'self')} == {_compared(known, 'other')}"
        )

    def _hash(known, _scope, _frozen):
        return f"def __hash__(self):\n return hash({_compared(known, 'self')})"

    def _repr(known, _scope, _frozen):
        shown = ", ".join(f"{one.name}={{self.{one.name}!r}}" for one in known if one.repr)
        return f"def __repr__(self):\n return f'{{self.__class__.__qualname__}}({shown})'"

    class FrozenInstanceError(AttributeError):
        """A field of a frozen instance was assigned to or deleted."""

    def _refuse_set(self, name, _value):
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def _refuse_delete(self, name):
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def _getstate(self):
        return [getattr(self, name) for name in getattr(type(self), _FIELDS)]

    def _setstate(self, state):
        for name, value in zip(getattr(type(self), _FIELDS), state, strict=True):
            _set(self, name, value)

    def fields(of):
        """As `dataclasses.fields`: of a class or an instance."""
        return tuple(getattr(of, _FIELDS).values())

    def is_dataclass(value):
        """As `dataclasses.is_dataclass`."""
        return hasattr(value, _FIELDS)

    def replace(value, /, **changes):
        """As `dataclasses.replace`."""
        for name in getattr(value, _FIELDS):
            if name not in changes:
                changes[name] = getattr(value, name)
        return type(value)(**changes)

    def asdict(value):
        """As `dataclasses.asdict`."""
        return {name: _plain(getattr(value, name)) for name in getattr(value, _FIELDS)}

    def _plain(value):
        if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
        if isinstance(value, list | tuple):
            items = map(_plain, value)
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
        if isinstance(value, dict):
            return {_plain(key): _plain(one) for key, one in value.items()}
        return value
