/** The version of this build. build.ts puts the number in place of the variable. */
export const VERSION: string = process.env.APP_VERSION ?? "dev";
