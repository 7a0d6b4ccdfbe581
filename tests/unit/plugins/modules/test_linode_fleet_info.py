# Copyright: c50k.stack contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.c50k.stack.plugins.modules.linode_fleet_info import monthly

PRICE = {"price": {"monthly": 5}, "region_prices": [{"id": "id-cgk", "monthly": 6.0}]}


def test_a_region_may_have_a_price_of_its_own():
    assert monthly(PRICE, "de-fra-2") == 5.0
    assert monthly(PRICE, "id-cgk") == 6.0
    assert monthly({"price": {"monthly": None}, "region_prices": []}, "de-fra-2") == 0.0
