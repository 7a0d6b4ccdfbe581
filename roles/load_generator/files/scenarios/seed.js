// SPDX-License-Identifier: MIT
// Visitors who look at an item or ask for the health, one as often as the other, and pause for 1 to 5 seconds.
import http from "k6/http";
import { sleep } from "k6";

const ITEMS = 1000; // that the reference service is made with
const addresses = __ENV.ADDRESSES.split(",");

export default function () {
  const address = addresses[__VU % addresses.length];
  if (Math.random() < 0.5) {
    const id = 1 + Math.floor(Math.random() * ITEMS);
    http.get(`${address}/items/${id}`, { tags: { name: "/items/{id}" } });
  } else {
    http.get(`${address}/health`, { tags: { name: "/health" } });
  }
  sleep(1 + 4 * Math.random());
}
