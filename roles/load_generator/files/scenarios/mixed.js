// SPDX-License-Identifier: MIT
// What the reference service can do, in the proportions of a shop: most read, some of it past the cache; few write.
import http from "k6/http";
import { sleep } from "k6";

const ITEMS = 1000; // that the reference service is made with
const POPULAR = 100;
const POLL = 10; // seconds
const WRITTEN = JSON.stringify({ name: "written by a load test", price_cents: 100 });
const addresses = __ENV.ADDRESSES.split(",");

export const options = { noCookiesReset: true }; // who wrote reads past the cache for a moment

const item = (most) => `/items/${1 + Math.floor(Math.random() * most)}`;
const get = (url, name) => http.get(url, { tags: { name } });

const TASKS = [
  [60, (to) => get(to + item(POPULAR), "/items/{id}")],
  [10, (to) => get(`${to}${item(ITEMS)}?source=replica`, "/items/{id}?source=replica")],
  [5, (to) => http.put(to + item(ITEMS), WRITTEN, { tags: { name: "/items/{id}" } })],
  [5, (to) => get(`${to}${item(POPULAR)}/changes?timeout=${POLL}`, "/items/{id}/changes")],
  [20, (to) => get(`${to}/static/`, "/static/")],
];

export default function () {
  let left = Math.random() * TASKS.reduce((sum, [weight]) => sum + weight, 0);
  const [, task] = TASKS.find(([weight]) => (left -= weight) < 0);
  task(addresses[__VU % addresses.length]);
  sleep(1 + 4 * Math.random());
}
