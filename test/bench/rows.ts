/** All sections of the benchmark, in the order of the table. */
import { needs } from "../helpers/needs.ts";
import { apiSection } from "./api-rows.ts";
import type { Bench, Section, Settings } from "./bench.ts";
import { costSection } from "./cost-rows.ts";
import { engineSections } from "./engine-rows.ts";
import { growthSection } from "./growth-rows.ts";
import { jobSections } from "./job-rows.ts";
import { nbdSection } from "./nbd-rows.ts";
import { policySection } from "./policy-rows.ts";

/** A section that says that it is left out where fio is missing. */
function withFio({ name, run }: Section): Section {
  return {
    name,
    run: async (bench: Bench) => {
      if (needs("fio")) await run(bench);
      else bench.leaveOut(name, "there is no fio");
    },
  };
}

export function allSections(mode: Settings["mode"]): Section[] {
  return [
    ...engineSections(mode).map(withFio),
    policySection,
    ...jobSections(mode),
    withFio(nbdSection),
    withFio(apiSection),
    costSection,
    growthSection,
  ];
}
