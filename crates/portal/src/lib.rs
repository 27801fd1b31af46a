//! The Instance Portal: Caddyfile rendering, request authentication and the web application.
