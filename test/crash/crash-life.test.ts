/**
 * Goal: the power may be cut at any event of an array's life (create, loss of a member, rebuild,
 * rollback, resync, stop, bad sectors), and what was promised holds, as in crash-writes.test.ts.
 * Method: the same matrix over the traces of these scenarios.
 */
import { runScenarios } from "./run-scenarios.ts";
import { LIFE_SCENARIOS } from "./scenarios-life.ts";

runScenarios({
  title: "life of an array",
  scenarios: LIFE_SCENARIOS,
  imagesEach: 5000,
  imagesWanted: 60_000,
  realWanted: 8000,
});
