/**
 * What `smartctl --json` prints for drives of several kinds, in the shape of smartmontools 7 (its
 * manual page, and the keys of its sources): the parts that are read, and some that are not.
 */

type Document = Record<string, unknown>;

function frame(options: { name: string; type: string; protocol: string; exitStatus?: number }) {
  const { name, type, protocol, exitStatus = 0 } = options;
  return {
    json_format_version: [1, 0],
    smartctl: {
      version: [7, 3],
      svn_revision: "5338",
      platform_info: "x86_64-linux-6.1.0-32-amd64",
      build_info: "(local build)",
      argv: ["smartctl", "--json=c", name],
      exit_status: exitStatus,
    },
    local_time: { time_t: 1_796_000_000, asctime: "Mon Nov 30 00:53:20 2026 UTC" },
    device: { name, info_name: `${name} [SAT]`, type, protocol },
  };
}

interface AttributeOptions {
  readonly id: number;
  readonly name: string;
  readonly raw: number;
  readonly text?: string;
  readonly prefailure?: boolean;
  readonly whenFailed?: "" | "now" | "past";
}

function attribute({ id, name, raw, text, prefailure = false, whenFailed = "" }: AttributeOptions) {
  return {
    ...{ id, name, value: 100, worst: 100, thresh: prefailure ? 10 : 0, when_failed: whenFailed },
    flags: {
      value: 50,
      string: "-O--CK ",
      ...{ prefailure, updated_online: true, performance: false, error_rate: false },
      ...{ event_count: true, auto_keep: true },
    },
    raw: { value: raw, string: text ?? String(raw) },
  };
}

export interface DiskOptions {
  readonly serial?: string;
  readonly passed?: boolean;
  readonly reallocated?: number;
  readonly pending?: number;
  readonly prefailNow?: boolean;
}

/** A SATA disk. Raw values of other attributes are packed: they are no counts. */
export function sataDisk(options: DiskOptions = {}): Document {
  const { serial = "WD-WX12D80ABCDE", passed = true, reallocated = 0, pending = 0 } = options;
  const whenFailed = options.prefailNow === true ? "now" : "";
  return {
    ...frame({ name: "/dev/sda", type: "sat", protocol: "ATA" }),
    model_family: "Western Digital Red",
    model_name: "WDC WD40EFZX-68AWUN0",
    serial_number: serial,
    wwn: { naa: 5, oui: 5_358, id: 11_937_654_321 },
    rotation_rate: 5_400,
    smart_support: { available: true, enabled: true },
    smart_status: { passed },
    ata_smart_attributes: {
      revision: 16,
      table: [
        attribute({ id: 1, name: "Raw_Read_Error_Rate", raw: 191_815_688, prefailure: true }),
        attribute({
          ...{ id: 5, name: "Reallocated_Sector_Ct", raw: reallocated, prefailure: true },
          whenFailed,
        }),
        attribute({ id: 9, name: "Power_On_Hours", raw: 12_034 }),
        attribute({ id: 194, name: "Temperature_Celsius", raw: 90_195_361_823, text: "31" }),
        attribute({ id: 197, name: "Current_Pending_Sector", raw: pending }),
        attribute({ id: 198, name: "Offline_Uncorrectable", raw: 0 }),
        attribute({ id: 190, name: "Airflow_Temperature_Cel", raw: 31, whenFailed: "past" }),
      ],
    },
    power_on_time: { hours: 12_034 },
    power_cycle_count: 61,
    temperature: { current: 31 },
    ata_smart_error_log: { summary: { revision: 1, count: 0 } },
  };
}

/** A SATA SSD, as 7.4 tells of it. */
export function sataSsd(): Document {
  return {
    ...frame({ name: "/dev/sdb", type: "sat", protocol: "ATA" }),
    model_name: "Samsung SSD 870 EVO 1TB",
    serial_number: "S6P5NX0R912345X",
    rotation_rate: 0,
    smart_support: { available: true, enabled: true },
    smart_status: { passed: true },
    endurance_used: { current_percent: 4 },
    spare_available: { current_percent: 100, threshold_percent: 10 },
    ata_smart_attributes: {
      revision: 1,
      table: [
        attribute({ id: 5, name: "Reallocated_Sector_Ct", raw: 0, prefailure: true }),
        attribute({ id: 177, name: "Wear_Leveling_Count", raw: 71, prefailure: true }),
      ],
    },
    power_on_time: { hours: 20_111, minutes: 7 },
    temperature: { current: 29 },
  };
}

export interface NvmeOptions {
  readonly warning?: number;
  readonly mediaErrors?: number;
  readonly used?: number;
  readonly spare?: number;
}

export function nvme(options: NvmeOptions = {}): Document {
  const { warning = 0, mediaErrors = 0, used = 3, spare = 100 } = options;
  return {
    ...frame({ name: "/dev/nvme0n1", type: "nvme", protocol: "NVMe" }),
    model_name: "Samsung SSD 970 EVO Plus 1TB",
    serial_number: "S4EWNX0R123456",
    nvme_total_capacity: 1_000_204_886_016,
    smart_support: { available: true, enabled: true },
    smart_status: { passed: warning === 0, nvme: { value: warning } },
    nvme_smart_health_information_log: {
      critical_warning: warning,
      temperature: 38,
      available_spare: spare,
      available_spare_threshold: 10,
      percentage_used: used,
      data_units_read: 81_273_646,
      power_on_hours: 9_120,
      unsafe_shutdowns: 19,
      media_errors: mediaErrors,
      num_err_log_entries: 1_020,
      temperature_sensors: [38, 45],
    },
    temperature: { current: 38 },
    power_on_time: { hours: 9_120 },
  };
}

/** A SAS disk. */
export function sasDisk(): Document {
  const errors = (uncorrected: number) => ({
    errors_corrected_by_eccfast: 120,
    total_errors_corrected: 120,
    gigabytes_processed: "81231.115",
    total_uncorrected_errors: uncorrected,
  });
  return {
    ...frame({ name: "/dev/sdc", type: "scsi", protocol: "SCSI" }),
    scsi_vendor: "SEAGATE",
    scsi_product: "ST4000NM0025",
    scsi_model_name: "SEAGATE ST4000NM0025",
    serial_number: "ZC11ABCD0000C8",
    smart_support: { available: true, enabled: true },
    smart_status: { passed: true },
    temperature: { current: 33, drive_trip: 60 },
    power_on_time: { hours: 41_002, minutes: 12 },
    scsi_grown_defect_list: 6,
    scsi_error_counter_log: { read: errors(2), write: errors(0), verify: errors(1) },
  };
}

/** A virtual disk, of which smartctl cannot even tell the kind. */
export function virtualDisk(): Document {
  const { device: _device, ...rest } = frame({ name: "/dev/vda", type: "", protocol: "" });
  const said =
    "/dev/vda: Unable to detect device type\nPlease specify device type with the -d option.";
  const messages = [{ string: said, severity: "error" }];
  return { ...rest, smartctl: { ...rest.smartctl, messages, exit_status: 1 } };
}

/** A disk that sleeps, where it was told to end with 3. */
export function sleepingDisk(): Document {
  const base = frame({ name: "/dev/sda", type: "sat", protocol: "ATA", exitStatus: 3 });
  const messages = [{ string: "Device is in STANDBY mode, exit(3)", severity: "information" }];
  return { ...base, smartctl: { ...base.smartctl, messages } };
}
