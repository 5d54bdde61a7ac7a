/** What the sequences did, added up by kind. A kind at 0 was not tested. */

/** As plain data, for another process. */
export type LifeCountsData = Record<string, number>;

export class LifeCounts {
  private readonly counts = new Map<string, number>();

  bump(kind: string, by = 1): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + by);
  }

  of(kind: string): number {
    return this.counts.get(kind) ?? 0;
  }

  data(): LifeCountsData {
    return Object.fromEntries(this.counts);
  }

  add(other: LifeCountsData): void {
    for (const [kind, by] of Object.entries(other)) this.bump(kind, by);
  }

  /** A line for each group, which is what stands before the colon of a kind. */
  text(): string {
    const groups = new Map<string, string[]>();
    for (const [kind, count] of [...this.counts].sort(([one], [other]) => (one < other ? -1 : 1))) {
      const [group, name = "all"] = kind.split(": ");
      groups.set(group!, [...(groups.get(group!) ?? []), `${name} ${count}`]);
    }
    return [...groups].map(([group, entries]) => `  ${group}: ${entries.join(", ")}`).join("\n");
  }
}
