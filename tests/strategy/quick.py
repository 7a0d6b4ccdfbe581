"""mitogen_linear; what each worker and each run would find or compile again is kept: collections, templates, code."""

import builtins
import gc
import hashlib
import marshal
import os
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any

import ansible.collections.list
import ansible_mitogen.loaders
import ansible_mitogen.module_finder
import ansible_mitogen.strategy
import mitogen.master
from ansible._internal._templating._jinja_bits import AnsibleEnvironment, _TemplateCompileContext
from ansible.release import __version__

COMPILED = Path(__file__).parents[2] / ".cache/compiled" / __version__
OPTIONS = ("block_start_string", "variable_start_string", "trim_blocks", "lstrip_blocks", "keep_trailing_newline")

found = tuple(ansible.collections.list.list_collection_dirs())
ansible.collections.list.list_collection_dirs = lambda *_, **__: found

compile_template = AnsibleEnvironment.compile


def kept(meant: str, make: Callable[[], CodeType]) -> CodeType:
    """What an earlier run or another worker made, or what is made now."""
    path = COMPILED / hashlib.sha256(meant.encode()).hexdigest()
    try:
        return marshal.loads(path.read_bytes())
    except FileNotFoundError:
        code = make()
    own = path.with_suffix(f".{os.getpid()}")
    own.write_bytes(marshal.dumps(code))
    own.rename(path)
    return code


def compile_template_once(self: AnsibleEnvironment, source: Any, *arguments: Any, **options: Any) -> CodeType:
    syntax = [getattr(self, option) for option in OPTIONS]
    context = _TemplateCompileContext.current(optional=True)
    meant = repr((source, arguments, options, syntax, context and context.escape_backslashes))
    return kept(meant, lambda: compile_template(self, source, *arguments, **options))


def compile_once(source: str | bytes, *arguments: Any) -> CodeType:
    """For mitogen, which compiles a module to see what it imports."""
    return kept(repr((source, arguments)), lambda: builtins.compile(source, *arguments))


gc.disable()  # each worker is a fork, which it would make write to all that it shares
COMPILED.mkdir(parents=True, exist_ok=True)
AnsibleEnvironment.compile = compile_template_once
ansible_mitogen.module_finder.compile = mitogen.master.compile = compile_once
linear = ansible_mitogen.loaders.strategy_loader.get("linear", class_only=True)


class StrategyModule(ansible_mitogen.strategy.StrategyMixin, linear):
    pass
