/**
 * Layouts and numbers of the Linux user-space interface on x86-64 and arm64.
 *
 * Only what parityd uses. Where the two differ (epoll_event is packed on x86-64 only, O_DIRECT has
 * another bit on arm64) the value is chosen once, here.
 */
const isArm64 = process.arch === "arm64";

export const OpenFlag = {
  readOnly: 0,
  readWrite: 2,
  exclusive: 0o200,
  nonBlock: 0o4000,
  direct: isArm64 ? 0o200000 : 0o40000,
  closeOnExec: 0o2000000,
} as const;

export const FlockOperation = { exclusive: 2, nonBlock: 4, unlock: 8 } as const;
export const Seek = { set: 0, end: 2, data: 3, hole: 4 } as const;
export const FallocateMode = { keepSize: 1, punchHole: 2 } as const;

/** ioctl requests of block devices (linux/fs.h, scsi/sg.h). */
export const Ioctl = { blkGetSize64: 0x80081272, blkSectorSize: 0x1268, sgIo: 0x2285 } as const;

/** struct sg_io_hdr on 64-bit Linux (scsi/sg.h), 88 bytes. */
export const SgIo = {
  bytes: 88,
  interfaceId: 0,
  direction: 4,
  commandBytes: 8,
  senseBytes: 9,
  transferBytes: 12,
  transfer: 16,
  command: 24,
  sense: 32,
  timeoutMs: 40,
  status: 64,
  hostStatus: 68,
  driverStatus: 70,
  /** Values: the letter S; SG_DXFER_FROM_DEV. */
  interfaceS: 0x53,
  fromDevice: -3,
} as const;

/** struct statx (linux/stat.h), 256 bytes. */
export const Statx = {
  bytes: 256,
  mode: 28,
  inode: 32,
  sizeBytes: 40,
  blocks: 48,
  rdevMajor: 128,
  rdevMinor: 132,
  deviceMajor: 136,
  deviceMinor: 140,
  maskBasic: 0x7ff,
  atCurrentDirectory: -100,
  atSymlinkNoFollow: 0x100,
  atEmptyPath: 0x1000,
} as const;

/** struct statfs on 64-bit Linux, 120 bytes. */
export const Statfs = { bytes: 120, type: 0, blockBytes: 8, availableBlocks: 32 } as const;

export const FileType = {
  mask: 0o170000,
  socket: 0o140000,
  regular: 0o100000,
  blockDevice: 0o060000,
  directory: 0o040000,
  characterDevice: 0o020000,
  fifo: 0o010000,
} as const;

export const Socket = {
  unix: 1,
  inet: 2,
  inet6: 10,
  stream: 1,
  nonBlock: 0o4000,
  closeOnExec: 0o2000000,
  levelSocket: 1,
  reuseAddress: 2,
  sendBuffer: 7,
  keepAlive: 9,
  /** The peer of a Unix socket, as it was when it connected: struct ucred. */
  peerCredentials: 17,
  /** A struct timeval: how long a call may wait; 0 for ever. */
  receiveTimeout: 20,
  sendTimeout: 21,
  sendBufferForce: 32,
  levelTcp: 6,
  tcpNoDelay: 1,
  tcpKeepIdle: 4,
  tcpKeepInterval: 5,
  tcpKeepCount: 6,
  levelIpv6: 41,
  ipv6Only: 26,
  messageDontWait: 0x40,
  messageNoSignal: 0x4000,
  /** ECONNREFUSED */
  connectionRefused: 111,
} as const;

/** prctl(2): PR_SET_IO_FLUSHER, PR_GET_IO_FLUSHER. */
export const IoFlusher = { set: 57, get: 58 } as const;

/** A socket of generic netlink (linux/netlink.h); without an address it talks to the kernel. */
export const Netlink = { family: 16, raw: 3, generic: 16 } as const;

/** struct sockaddr_un: u16 family, 108 bytes of path. */
export const SOCKADDR_UNIX_BYTES = 110;
export const UNIX_PATH_BYTES_MAX = 107;
/** struct sockaddr_in: u16 family, u16 port (big endian), 4 bytes of address, padding. */
export const SOCKADDR_INET_BYTES = 16;
/** struct sockaddr_in6: u16 family, u16 port, u32 flow, 16 bytes of address, u32 scope. */
export const SOCKADDR_INET6_BYTES = 28;

/** struct msghdr on 64-bit Linux. */
export const MessageHeader = { bytes: 56, iov: 16, iovCount: 24 } as const;

/** struct ucred: i32 pid, u32 uid, u32 gid. */
export const Credentials = { bytes: 12, pid: 0, uid: 4 } as const;

/** struct rlimit: u64 soft, u64 hard. `openFiles` is RLIMIT_NOFILE. */
export const ResourceLimit = { bytes: 16, soft: 0, hard: 8, openFiles: 7 } as const;

export const Epoll = {
  closeOnExec: 0o2000000,
  add: 1,
  remove: 2,
  modify: 3,
  in: 1,
  out: 4,
  error: 8,
  hangUp: 16,
  edgeTriggered: 2 ** 31,
  /** struct epoll_event: u32 events, then u64 data; packed on x86-64 only. */
  eventBytes: isArm64 ? 16 : 12,
  dataOffset: isArm64 ? 8 : 4,
} as const;

export const EventFdFlag = { nonBlock: 0o4000, closeOnExec: 0o2000000 } as const;

/** Numbers of the AIO system calls. */
export const AioSyscall = isArm64
  ? { setup: 0, destroy: 1, submit: 2, getEvents: 4 }
  : { setup: 206, destroy: 207, getEvents: 208, submit: 209 };

/** madvise: its number, and what it may advise. */
export const MADVISE_SYSCALL = isArm64 ? 233 : 28;
export const Madvise = { hugePage: 14 } as const;
