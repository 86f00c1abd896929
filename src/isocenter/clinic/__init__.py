"""Transport between hospitals' systems and the package; `retrieve` fetches studies. No models."""
