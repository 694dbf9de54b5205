//! fio writes and reads back what it wrote, through each way into the kernel.

use crate::tool::tool;
use crate::world::Place;

/// Engine, pattern, and what else: each way into the kernel once or twice.
const JOBS: [(&str, &str, &[&str]); 9] = [
    ("psync", "randwrite", &["--bs=4k"]),
    ("psync", "randrw", &["--bsrange=512-64k", "--bs_unaligned=1"]),
    ("mmap", "randrw", &["--bs=4k"]),
    ("pvsync2", "write", &["--bs=1m", "--direct=1"]),
    ("libaio", "randwrite", &["--bs=4k", "--direct=1", "--iodepth=16"]),
    ("libaio", "randrw", &["--bsrange=4k-64k", "--direct=1", "--iodepth=16"]),
    ("io_uring", "randwrite", &["--bs=4k", "--iodepth=16"]),
    ("io_uring", "randrw", &["--bsrange=4k-64k", "--direct=1", "--iodepth=16"]),
    ("io_uring", "write", &["--bs=256k", "--direct=1", "--iodepth=8"]),
];

/// Every block that is written is read back and checked.
pub(crate) fn verify(place: &Place) -> Result<Vec<String>, String> {
    let fio = || {
        let common = ["--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--randseed=7"];
        tool("fio", "fio").within(&place.dir).args(common)
    };
    for (number, (engine, pattern, more)) in JOBS.into_iter().enumerate() {
        let name = format!("--name=job-{number}");
        let job = fio().args(["--size=8m", "--end_fsync=1", &name]).args(more);
        job.args([format!("--ioengine={engine}"), format!("--rw={pattern}")]).run()?;
    }
    // Several processes extend one file.
    let many = ["--numjobs=4", "--rw=write", "--bs=64k", "--direct=1", "--ioengine=psync"];
    let ranges = ["--name=many", "--filename=many", "--size=4m", "--offset_increment=4m"];
    fio().args(many).args(ranges).run()?;
    let sizes = tool("stat", "coreutils").within(&place.dir).args(["-c", "%n %s"]);
    Ok(vec![sizes.args(["job-0.0.0", "job-3.0.0", "many"]).run()?])
}
