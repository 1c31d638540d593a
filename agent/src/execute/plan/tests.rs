//! Tables: what is observed, and what comes next.
