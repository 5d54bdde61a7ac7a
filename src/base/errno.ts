/** The Linux errno values that parityd names (asm-generic/errno*.h), and their spelling. */

export const EPERM = 1;
export const ENOENT = 2;
export const EINTR = 4;
export const EIO = 5;
export const ENXIO = 6;
export const EBADF = 9;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EFAULT = 14;
export const ENOTBLK = 15;
export const EBUSY = 16;
export const EEXIST = 17;
export const ENODEV = 19;
export const ENOTDIR = 20;
export const EISDIR = 21;
export const EINVAL = 22;
export const EMFILE = 24;
export const ENOTTY = 25;
export const EFBIG = 27;
export const ENOSPC = 28;
export const EROFS = 30;
export const EPIPE = 32;
export const ENAMETOOLONG = 36;
export const ENOSYS = 38;
export const ELOOP = 40;
export const ENODATA = 61;
export const ENOLINK = 67;
export const EOVERFLOW = 75;
export const EILSEQ = 84;
export const ENOTSOCK = 88;
export const EOPNOTSUPP = 95;
export const EADDRINUSE = 98;
export const ECONNRESET = 104;
export const ESHUTDOWN = 108;
export const ETIMEDOUT = 110;
export const EINPROGRESS = 115;
export const EREMOTEIO = 121;
export const EDQUOT = 122;

const NAMES: Readonly<Record<number, string>> = {
  [EPERM]: "EPERM",
  [ENOENT]: "ENOENT",
  [EINTR]: "EINTR",
  [EIO]: "EIO",
  [ENXIO]: "ENXIO",
  [EBADF]: "EBADF",
  [EAGAIN]: "EAGAIN",
  [ENOMEM]: "ENOMEM",
  [EACCES]: "EACCES",
  [EFAULT]: "EFAULT",
  [ENOTBLK]: "ENOTBLK",
  [EBUSY]: "EBUSY",
  [EEXIST]: "EEXIST",
  [ENODEV]: "ENODEV",
  [ENOTDIR]: "ENOTDIR",
  [EISDIR]: "EISDIR",
  [EINVAL]: "EINVAL",
  [EMFILE]: "EMFILE",
  [ENOTTY]: "ENOTTY",
  [EFBIG]: "EFBIG",
  [ENOSPC]: "ENOSPC",
  [EROFS]: "EROFS",
  [EPIPE]: "EPIPE",
  [ENAMETOOLONG]: "ENAMETOOLONG",
  [ENOSYS]: "ENOSYS",
  [ELOOP]: "ELOOP",
  [ENODATA]: "ENODATA",
  [ENOLINK]: "ENOLINK",
  [EOVERFLOW]: "EOVERFLOW",
  [EILSEQ]: "EILSEQ",
  [ENOTSOCK]: "ENOTSOCK",
  [EOPNOTSUPP]: "EOPNOTSUPP",
  [EADDRINUSE]: "EADDRINUSE",
  [ECONNRESET]: "ECONNRESET",
  [ESHUTDOWN]: "ESHUTDOWN",
  [ETIMEDOUT]: "ETIMEDOUT",
  [EINPROGRESS]: "EINPROGRESS",
  [EREMOTEIO]: "EREMOTEIO",
  [EDQUOT]: "EDQUOT",
};

/** `EIO` for 5; `errno 131` for one that has no name here. Takes the positive number. */
export function errnoName(errno: number): string {
  return NAMES[errno] ?? `errno ${errno}`;
}

/** 5 for `EIO`, or undefined for a name that is not known. */
export function errnoByName(name: string): number | undefined {
  for (const [errno, known] of Object.entries(NAMES)) if (known === name) return Number(errno);
  return undefined;
}
