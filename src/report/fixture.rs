//! A small study with known figures, for the tests of summary and rendering.

use std::collections::BTreeMap;

use super::summary::{Method, Summary};
use crate::metrics::snapshot::{Data, Negotiated, Transport};
use crate::study::environment::{Backing, Environment, InForce};
use crate::study::matrix::{self, Cell};
use crate::study::sample::{
    Consumption, DaemonWork, Measurement, Outcome, Percentiles, Role, Sample,
};

pub(crate) const METHOD: Method = Method { rounds: 3, fio_seconds: 0.5, size_mib: 128, seed: 7 };

pub(crate) fn environment() -> Environment {
    Environment {
        began: "2026-01-31T12:00:00Z".into(),
        duration_seconds: 100.0,
        command: vec!["fusewire".into(), "demo".into()],
        fusewire: "0.1.0".into(),
        commit: Some("0123456789ab".into()),
        fio: "fio-3.33".into(),
        direct_engine: "io_uring".into(),
        kernel: "6.18.0".into(),
        fuse_parameters: BTreeMap::from([("enable_uring".into(), "N".into())]),
        cpu: "Some(R) Processor".into(),
        cpus: 2,
        governor: None,
        virtual_machine: true,
        memory_mib: 4096,
        load_average: 0.25,
        steal_percent: 0.5,
        backing: Backing {
            description: "ext4 in a sparse file on ext4, on a loop device".into(),
            fstype: "ext4".into(),
            mount_options: "rw,relatime;rw".into(),
            mkfs_options: Some("-E lazy_itable_init=0".into()),
            image_on: Some("ext4".into()),
            scheduler: Some("none".into()),
        },
        uring_switched_on: false,
        in_force: Some(InForce {
            profile: "shared".into(),
            transport: Transport {
                name: "dev".into(),
                workers: 2,
                channels: 2,
                ..Transport::default()
            },
            data: Data { mode: "passthrough".into(), requested: "auto".into(), reason: None },
            coherence: "watch".into(),
            negotiated: Negotiated {
                protocol: "7.45".into(),
                max_write_bytes: 1 << 20,
                ..Negotiated::default()
            },
        }),
    }
}

/// A rate cell, a cell with requests, and one that fails on fusewire.
pub(crate) fn cells() -> Vec<Cell> {
    let wanted = ["buffered-read-1m", "open-close", "unlink"];
    matrix::demo().into_iter().filter(|cell| wanted.contains(&cell.id.as_str())).collect()
}

/// Native reads 1000 MB in 1, 0.98 and 0.99 s and fusewire in 1.25 times that; open+close takes 4 µs and
/// 40 µs with two requests.
pub(crate) fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    for round in 0..3 {
        for role in [Role::NativeA, Role::Fusewire, Role::NativeB] {
            let mounted = role == Role::Fusewire;
            let native = [1.0, 0.98, 0.99][round as usize];
            let read = Measurement {
                operations: 1000,
                bytes: 1_000_000_000,
                seconds: if mounted { [1.25, 1.225, 1.2375][round as usize] } else { native },
                latency_ns: Percentiles { p50: 900, p99: 1500, p999: 25_000 },
                client: Consumption { user_cpu_us: 100.0, system_cpu_us: 900.0, switches: 10 },
                daemon: mounted.then(DaemonWork::default),
            };
            let open = Measurement {
                operations: 1000,
                seconds: if mounted { 0.04 } else { 0.004 },
                latency_ns: Percentiles { p50: 3900, p99: 8000, p999: 123_400 },
                daemon: mounted.then(|| DaemonWork {
                    requests: BTreeMap::from([("OPEN".into(), 1000), ("RELEASE".into(), 1000)]),
                    consumption: Consumption {
                        user_cpu_us: 3000.0,
                        system_cpu_us: 9000.0,
                        switches: 2000,
                    },
                }),
                ..Measurement::default()
            };
            let unlink = match role {
                Role::Fusewire => Outcome::Failed("Unlink failed on file 0: EIO".into()),
                _ => Outcome::Measured(Measurement {
                    operations: 10,
                    seconds: 1.0,
                    ..Measurement::default()
                }),
            };
            for (cell, outcome) in [
                ("buffered-read-1m", Outcome::Measured(read)),
                ("open-close", Outcome::Measured(open)),
                ("unlink", unlink),
            ] {
                let sequence = samples.len();
                samples.push(Sample { sequence, round, cell: cell.into(), role, outcome });
            }
        }
    }
    samples
}

pub(crate) fn summary() -> Summary {
    Summary::new(&cells(), &samples(), &environment(), METHOD)
}
