import { defineConfig } from "vite";

// The page is served at "/" with its files under "/assets/": relative addresses keep it working behind a prefix too.
export default defineConfig({
  base: "./",
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
