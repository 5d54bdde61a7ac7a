/**
 * The files of the page at `/`, as they are served: compressed once, when they are built.
 *
 *   /                      no-cache: it names the others
 *   /assets/<name>-<hash>  for ever: another content has another name
 */

export interface PageFile {
  readonly path: string;
  readonly contentType: string;
  /** A digest of the content. */
  readonly hash: string;
  readonly gzip: Uint8Array<ArrayBuffer>;
}

/** As it lies in the executable. */
export interface PackedPageFile extends Omit<PageFile, "gzip"> {
  readonly gzipBase64: string;
}

export function packPage(files: readonly PageFile[]): PackedPageFile[] {
  return files.map(({ gzip, ...rest }) => ({ ...rest, gzipBase64: gzip.toBase64() }));
}

export function unpackPage(files: readonly PackedPageFile[]): PageFile[] {
  return files.map(({ gzipBase64, ...rest }) => ({
    ...rest,
    gzip: Uint8Array.fromBase64(gzipBase64),
  }));
}
