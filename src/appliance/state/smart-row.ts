/**
 * The row of a drive whose disk has said something of its health (SMART): what it said the last
 * time, when, and what of it has been told.
 */
import { z } from "zod";

export const SMART_HEALTHS = ["passed", "failing", "unknown"] as const;
export const SMART_KINDS = ["ata", "nvme", "scsi"] as const;

/** Each is null where the drive does not say. */
export interface SmartNumbers {
  readonly temperatureCelsius: number | null;
  readonly powerOnHours: number | null;
  /** Of SCSI the grown defects. */
  readonly reallocatedSectors: number | null;
  /** Sectors that could not be read, and wait to be written. */
  readonly pendingSectors: number | null;
  readonly uncorrectableSectors: number | null;
  readonly mediaErrors: number | null;
  /** Of the life that the maker expects; may be above 100. */
  readonly percentageUsed: number | null;
  readonly availableSparePercent: number | null;
}

export interface SmartReading extends SmartNumbers {
  readonly kind: (typeof SMART_KINDS)[number] | null;
  readonly serial: string | null;
  readonly health: (typeof SMART_HEALTHS)[number];
  /** Why it is failing; empty where it is not. */
  readonly failures: readonly string[];
  /** It is hotter or colder than it may be, by its own limits. */
  readonly isOutsideTemperature: boolean;
}

const count = z.int().min(0);
const smartCount = count.nullable();
export const storedSmartSchema = z.object({
  drive: z.string(),
  readAt: z.string(),
  reading: z.object({
    kind: z.enum(SMART_KINDS).nullable(),
    serial: z.string().nullable(),
    health: z.enum(SMART_HEALTHS),
    failures: z.array(z.string()).readonly(),
    isOutsideTemperature: z.boolean(),
    temperatureCelsius: z.number().nullable(),
    powerOnHours: smartCount,
    reallocatedSectors: smartCount,
    pendingSectors: smartCount,
    uncorrectableSectors: smartCount,
    mediaErrors: smartCount,
    percentageUsed: smartCount,
    availableSparePercent: smartCount,
  }) satisfies z.ZodType<SmartReading>,
  told: z.record(z.string(), count).readonly(),
});
export type StoredSmart = Readonly<z.output<typeof storedSmartSchema>>;
