/**
 * Who holds the reservation of a SCSI disk: the answer to PERSISTENT RESERVE IN, READ FULL STATUS
 * (SPC-4, 6.15.5), whose descriptors name the initiators by their TransportIDs (7.6.4).
 *
 *   0  generation, 4 bytes
 *   4  bytes of descriptors
 *   8  descriptors: | key 8 | 4 | flags 1: R_HOLDER is bit 0 | scope, type 1 | ... | 20: length of
 *                     the TransportID, 4 | TransportID |
 */
const HEADER_BYTES = 8;
const DESCRIPTOR_BYTES = 24;
const FLAGS_OFFSET = 12;
const TRANSPORT_LENGTH_OFFSET = 20;
const IS_HOLDER = 1;
const Protocol = { fibreChannel: 0, iscsi: 5, sas: 6 } as const;

/** `key 0xb2, initiator iqn.…`, of each holder; null where nobody holds it. */
export function reservationHolders(answer: Uint8Array): string | null {
  const view = new DataView(answer.buffer, answer.byteOffset, answer.length);
  if (answer.length < HEADER_BYTES) return null;
  const end = Math.min(answer.length, HEADER_BYTES + view.getUint32(4));
  const holders: string[] = [];
  let at = HEADER_BYTES;
  while (at + DESCRIPTOR_BYTES <= end) {
    const length = view.getUint32(at + TRANSPORT_LENGTH_OFFSET);
    const transport = answer.subarray(
      at + DESCRIPTOR_BYTES,
      Math.min(end, at + DESCRIPTOR_BYTES + length),
    );
    if ((answer[at + FLAGS_OFFSET]! & IS_HOLDER) !== 0) {
      const initiator = initiatorName(transport);
      const key = `key 0x${view.getBigUint64(at).toString(16)}`;
      holders.push(initiator === null ? key : `${key}, initiator ${initiator}`);
    }
    at += DESCRIPTOR_BYTES + length;
  }
  return holders.length === 0 ? null : holders.join("; ");
}

function initiatorName(transport: Uint8Array): string | null {
  if (transport.length < 4) return null;
  switch (transport[0]! & 0xf) {
    case Protocol.iscsi: {
      const text = new TextDecoder().decode(transport.subarray(4));
      const [name = ""] = text.split("\0");
      return name === "" ? null : name;
    }
    case Protocol.fibreChannel:
      return transport.length < 16 ? null : `wwn ${transport.subarray(8, 16).toHex()}`;
    case Protocol.sas:
      return transport.length < 12 ? null : `sas ${transport.subarray(4, 12).toHex()}`;
    default:
      return null;
  }
}
