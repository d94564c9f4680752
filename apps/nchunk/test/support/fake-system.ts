import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { systemFiles, type SystemFiles } from "../../src/doctor/system-files";

/** Real files and links under a temporary root, read by the code that reads `/proc` and `/sys`. */
export async function fakeSystem(
  files: Record<string, string>,
  links: Record<string, string> = {},
): Promise<{ files: SystemFiles; remove(): Promise<void> }> {
  const root = await mkdtemp(path.join(os.tmpdir(), "nchunk-system-"));
  for (const [name, text] of Object.entries(files)) {
    await mkdir(path.dirname(path.join(root, name)), { recursive: true });
    await writeFile(path.join(root, name), text);
  }
  for (const [name, target] of Object.entries(links)) {
    const link = path.join(root, name);
    await mkdir(path.dirname(link), { recursive: true });
    await symlink(path.relative(path.dirname(link), path.join(root, target)), link);
  }
  return {
    files: systemFiles(root),
    remove: () => rm(root, { recursive: true, force: true }),
  };
}
