import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** The licences of all that is bundled, beside it: every one of them asks for that. */
function licences(): Plugin {
  return {
    name: "licences",
    generateBundle(_options, bundle) {
      const packages = new Set<string>();
      for (const chunk of Object.values(bundle)) {
        if (chunk.type !== "chunk") continue;
        for (const id of chunk.moduleIds) {
          const match = /.*\/node_modules\/(@[^/]+\/[^/]+|[^/]+)/.exec(id.replaceAll("\\", "/"));
          if (match) packages.add(match[0]);
        }
      }
      const texts = [...packages].sort().map((folder) => {
        const about = JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as { name: string; version: string };
        const file = readdirSync(folder).find((name) => /^licen[cs]e/i.test(name));
        // A package that came without its text: the text is kept here, from its repository.
        const path = file ? join(folder, file) : here(`./licences/${about.name.replace("/", "+")}.txt`);
        if (!existsSync(path)) throw new Error(`${about.name} has no licence text; put it into ${path}`);
        const text = readFileSync(path, "utf8").trim();
        return `${about.name} ${about.version}\n\n${text}`;
      });
      this.emitFile({ type: "asset", fileName: "assets/third-party-licences.txt", source: `${texts.join(`\n\n${"-".repeat(80)}\n\n`)}\n` });
    },
  };
}

// The page is served at "/" with its files under "/assets/": relative addresses keep it working behind a prefix too.
export default defineConfig({
  base: "./",
  plugins: [licences()],
  resolve: {
    alias: [{ find: /^numcodecs\/.*/, replacement: here("./src/view/no_codec.ts") }],
  },
  build: {
    outDir: "../src/isocenter/viewer/page",
    emptyOutDir: true,
    target: "es2022",
    // No script or picture inside the document: the server's content security policy forbids both.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 3000,
  },
});
