/** What is installed as it lies in files/: imported as text. */
declare module "*.service" {
  const text: string;
  export default text;
}
declare module "*.timer" {
  const text: string;
  export default text;
}
declare module "*.rules" {
  const text: string;
  export default text;
}
declare module "*.bash" {
  const text: string;
  export default text;
}
declare module "*.conf" {
  const text: string;
  export default text;
}
declare module "*.cron" {
  const text: string;
  export default text;
}
declare module "*.md" {
  const text: string;
  export default text;
}
