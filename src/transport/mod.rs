//! How requests arrive and replies leave. A transport knows nothing of file systems.

pub mod buffers;
pub mod dev;
pub mod dev_ring;
pub mod inflow;
pub mod line;
pub mod splice;
pub mod uring;
