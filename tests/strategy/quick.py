"""mitogen_linear, whose workers share what each would else find by itself: compiled templates, and collections."""

import hashlib
import marshal
import os
from pathlib import Path

import ansible.collections.list
import ansible_mitogen.loaders
import ansible_mitogen.strategy
from ansible._internal._templating._jinja_bits import AnsibleEnvironment, _TemplateCompileContext
from ansible.release import __version__

TEMPLATES = Path(__file__).parents[2] / ".cache/templates" / __version__
OPTIONS = ("block_start_string", "variable_start_string", "trim_blocks", "lstrip_blocks", "keep_trailing_newline")

found = tuple(ansible.collections.list.list_collection_dirs())
ansible.collections.list.list_collection_dirs = lambda *_, **__: found

compile_template = AnsibleEnvironment.compile


def compile_once(self, source, *arguments, **options):
    context = _TemplateCompileContext.current(optional=True)
    syntax = [getattr(self, option) for option in OPTIONS]
    meant = repr((source, arguments, options, syntax, context and context.escape_backslashes))
    kept = TEMPLATES / hashlib.sha256(meant.encode()).hexdigest()
    try:
        return marshal.loads(kept.read_bytes())
    except FileNotFoundError:
        code = compile_template(self, source, *arguments, **options)
    own = kept.with_suffix(f".{os.getpid()}")
    own.write_bytes(marshal.dumps(code))
    own.rename(kept)
    return code


TEMPLATES.mkdir(parents=True, exist_ok=True)
AnsibleEnvironment.compile = compile_once
linear = ansible_mitogen.loaders.strategy_loader.get("linear", class_only=True)


class StrategyModule(ansible_mitogen.strategy.StrategyMixin, linear):
    pass
