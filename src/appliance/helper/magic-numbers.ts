/**
 * What a number at a fixed place tells of a drive or file: noun, places, magic.
 *
 * A place below zero counts back from the end of the last whole sector. A magic is Latin-1: each
 * character is a byte. Sources: libblkid's superblock probers (util-linux), file(1)'s magic files,
 * and the formats' own documents. Where one format lies within another, the outer one comes first;
 * the shorter a magic, the later it comes.
 */
import { KIB } from "../../base/units.ts";

export type MagicNumber = readonly [found: string, places: readonly number[], magic: string];

/** A copy of the LUKS2 header lies at one of these, by the size of its first header. */
const LUKS2_COPIES = [16, 32, 64, 128, 256, 512].map((kib) => kib * KIB);

export const MAGIC_NUMBERS: readonly MagicNumber[] = [
  // What takes a whole device.
  ["a LUKS encrypted volume", [0], "LUKS\xba\xbe"],
  ["a LUKS encrypted volume", LUKS2_COPIES, "SKUL\xba\xbe"],
  ["a BitLocker encrypted volume", [3], "-FVE-FS-"],
  ["a Ceph BlueStore device", [0], "bluestore block device"],
  [
    "a bcache device",
    [4 * KIB + 24],
    "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81",
  ],
  [
    "a bcachefs file system",
    [4 * KIB + 24],
    "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef",
  ],
  ["a Stratis pool member", [512 + 4], "!Stra0tis\x86\xff\x02^\x41rh"],
  ["a VDO volume", [0], "dmvdo001"],
  ["an Oracle ASM disk", [32], "ORCLDISK"],
  ["an SPDK blobstore", [0], "SPDKBLOB"],
  ["an SPDK RAID member", [0], "SPDKRAID"],
  ["an NVIDIA firmware RAID member", [-1024], "NVIDIA  "],
  ["an LSI firmware RAID member", [-512], "$XIDE$"],
  ["a hibernation image", [4086, 8182, 16_374, 65_526], "S1SUSPEND"],
  ["a hibernation image", [4086, 8182, 16_374, 65_526], "ULSUSPEND"],
  ["a hibernation image", [4086, 8182, 16_374, 65_526], "LINHIB0001"],

  // File systems.
  ["an XFS file system", [0], "XFSB"],
  ["a btrfs file system", [64 * KIB + 64], "_BHRfS_M"],
  ["an F2FS file system", [1024], "\x10\x20\xf5\xf2"],
  ["an APFS container", [32], "NXSB"],
  ["an HFS+ file system", [1024], "H+\x00\x04"],
  ["an HFS+ file system", [1024], "HX\x00\x05"],
  ["a JFS file system", [32 * KIB], "JFS1"],
  ["a ReiserFS file system", [64 * KIB + 52, 8 * KIB + 52], "ReIsEr"],
  ["a GFS2 file system", [64 * KIB], "\x01\x16\x19\x70"],
  ["an OCFS2 file system", [1, 2, 4, 8, 16].map((kib) => kib * KIB), "OCFSV2"],
  ["a NILFS file system", [1024 + 4], "\x00\x00\x34\x34"],
  ["an ISO 9660 file system", [32 * KIB + 1], "CD001"],
  ["a UDF file system", [32 * KIB + 1], "BEA01"],
  ["a SquashFS file system", [0], "hsqs"],
  ["an EROFS file system", [1024], "\xe2\xe1\xf5\xe0"],
  ["a cramfs file system", [0, 512], "\x45\x3d\xcd\x28"],
  ["a romfs file system", [0], "-rom1fs-"],

  ["an Apple partition map", [512], "PM\0\0"],
  ["a BSD disk label", [0, 64, 512], "\x57\x45\x56\x82"],

  // Images of disks.
  ["a qcow disk image", [0], "QFI\xfb"],
  ["a VMDK disk image", [0], "KDMV"],
  ["a VMDK disk image", [0], "COWD"],
  ["a VMDK disk image", [0], "# Disk DescriptorFile"],
  ["a VHDX disk image", [0], "vhdxfile"],
  ["a VHD disk image", [0, -512], "conectix"],
  ["a VDI disk image", [64], "\x7f\x10\xda\xbe"],
  ["a QED disk image", [0], "QED\0"],
  ["a Parallels disk image", [0], "WithoutFreeSpace"],
  ["a Parallels disk image", [0], "WithouFreSpacExt"],
  ["a Windows image", [0], "MSWIM\0\0\0"],

  // Databases, archives, programs, documents.
  ["an SQLite database", [0], "SQLite format 3\0"],
  ["a tar archive", [257], "ustar"],
  ["a cpio archive", [0], "070701"],
  ["a cpio archive", [0], "070702"],
  ["a cpio archive", [0], "070707"],
  ["a 7-Zip archive", [0], "7z\xbc\xaf\x27\x1c"],
  ["a RAR archive", [0], "Rar!\x1a\x07"],
  ["a ZIP archive", [0], "PK\x03\x04"],
  ["a ZIP archive", [0], "PK\x05\x06"],
  ["an archive of ar (a Debian package, a library)", [0], "!<arch>\n"],
  ["an RPM package", [0], "\xed\xab\xee\xdb"],
  ["xz compressed data", [0], "\xfd7zXZ\0"],
  ["zstd compressed data", [0], "\x28\xb5\x2f\xfd"],
  ["lz4 compressed data", [0], "\x04\x22\x4d\x18"],
  ["bzip2 compressed data", [4], "1AY&SY"],
  ["an ELF program or library", [0], "\x7fELF"],
  ["a PNG image", [0], "\x89PNG\r\n\x1a\n"],
  ["a JPEG image", [0], "\xff\xd8\xff"],
  ["a GIF image", [0], "GIF8"],
  ["a RIFF file (sound, film, WebP)", [0], "RIFF"],
  ["an MP4 film", [4], "ftyp"],
  ["a Matroska film", [0], "\x1a\x45\xdf\xa3"],
  ["an Ogg file", [0], "OggS"],
  ["a PDF document", [0], "%PDF-"],
  ["an old Office document", [0], "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"],
  ["gzip compressed data", [0], "\x1f\x8b\x08"],
  ["an old cpio archive", [0], "\xc7\x71"],
];
