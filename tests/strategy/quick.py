"""mitogen_linear, which finds the collections once in a run; each worker would look for them, and load the galaxy client for that."""

import ansible.collections.list

import ansible_mitogen.loaders
import ansible_mitogen.strategy

found = tuple(ansible.collections.list.list_collection_dirs())
ansible.collections.list.list_collection_dirs = lambda *_, **__: found


class StrategyModule(ansible_mitogen.strategy.StrategyMixin, ansible_mitogen.loaders.strategy_loader.get("linear", class_only=True)):
    pass
