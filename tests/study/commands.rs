//! Other programs that mount: what they cost wherever they run, what they leave, and where they mount.

use std::path::Path;

use super::*;

/// A study of one cell with these systems: id and script.
fn others(seconds: f64, systems: &[(&str, &str)]) -> Desk {
    let desk = Desk::new("");
    let mut study = format!(
        "name = \"others\"\ntitle = \"Others\"\nrounds = 1\nseconds = {seconds}\nmount-seconds = 3.0\n\
         [[cells]]\nworkload = \"stat-forced\"\nfiles = 20\n"
    );
    for (id, script) in systems {
        let path = program(&desk, id, script);
        study.push_str(&format!(
            "[[system]]\nid = \"{id}\"\nkind = \"command\"\n\
             command = [\"{path}\", \"{{source}}\", \"{{mountpoint}}\"]\n"
        ));
    }
    fs::write(desk.path("study.toml"), study).expect("write");
    desk
}

#[test]
fn what_a_daemon_costs_is_known_wherever_it_runs_or_said_to_be_unknown() {
    let desk = others(
        0.3,
        &[
            ("child", "\"$FUSEWIRE\" mount \"$1\" \"$2\" -f; exit 0"),
            ("background", "exec \"$FUSEWIRE\" mount \"$1\" \"$2\""),
            ("session", "setsid \"$FUSEWIRE\" mount \"$1\" \"$2\" -f & sleep 0.1"),
            // Nothing tells that it has to do with us.
            ("stranger", "exec env -i setsid \"$FUSEWIRE\" mount \"$1\" \"$2\""),
            // The kernel serves it, and nobody else.
            ("bind", "exec mount --bind \"$1\" \"$2\""),
        ],
    );
    let output = desk.run(&[]).succeeded();
    desk.is_clean();
    assert_eq!(output.stderr.matches("is unknown").count(), 1, "{output:?}");
    assert!(output.stderr.contains("system stranger: the CPU time of its daemon"), "{output:?}");
    for sample in desk.samples() {
        let measurement = measured(&sample);
        let consumption = measurement.daemon.as_ref().map(|daemon| daemon.consumption);
        match (sample.system.as_str(), consumption) {
            ("native" | "native-again", None) => {}
            ("child" | "background" | "session", Some(consumed)) => {
                let cpu_us = consumed.user_cpu_us + consumed.system_cpu_us;
                // A request takes no less than some microseconds of a daemon.
                assert!(cpu_us > measurement.operations as f64, "{sample:?}");
                assert!(consumed.voluntary_switches > 0, "{sample:?}");
            }
            ("stranger", None) => {
                assert!(measurement.flags[0].contains("is unknown"), "{sample:?}");
            }
            ("bind", Some(consumed)) => assert_eq!(consumed.user_cpu_us, 0.0, "{sample:?}"),
            other => panic!("{other:?}"),
        }
    }
}

/// Processes that were started with this word.
fn processes(word: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").expect("readable").flatten();
    let lines = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(word)).collect()
}

#[test]
fn nothing_that_a_command_has_started_outlives_its_turn() {
    let near = format!("777.{}", std::process::id());
    let far = format!("778.{}", std::process::id());
    let script = format!(
        "(sleep {near} &); (setsid sleep {far} &); exec \"$FUSEWIRE\" mount \"$1\" \"$2\" -f"
    );
    let desk = others(0.02, &[("leaves", &script)]);
    desk.run(&[]).succeeded();
    desk.is_clean();
    for word in [near, far] {
        assert!(processes(&word).is_empty(), "{:?}", processes(&word));
    }
}

#[test]
fn what_is_mounted_elsewhere_or_shows_something_else_is_named() {
    let desk = others(
        0.02,
        &[
            (
                "elsewhere",
                "mkdir \"$1/../else\"; exec \"$FUSEWIRE\" mount \"$1\" \"$1/../else\" -f",
            ),
            ("other", "exec \"$FUSEWIRE\" mount /usr/share \"$2\" -f"),
            ("never", "trap '' TERM; while :; do sleep 0.1; done"),
        ],
    );
    let output = desk.run(&[]).failed(1, &["without figures"]);
    desk.is_clean();
    for part in [
        "did not mount within 3 s; meanwhile a fuse.fusewire was mounted at else instead of {mountpoint}",
        "and stays there; if it is of elsewhere: umount -l ",
        "fuse.fusewire of /usr/share is mounted at {mountpoint}, and does not show the source",
        "the daemon of never had to be killed: it did not end on SIGTERM",
    ] {
        assert!(output.stderr.contains(part), "{part} in {}", output.stderr);
    }
    assert!(!output.stderr.contains("hold a copy of its mount"), "{}", output.stderr);
    assert!(!Path::new("/usr/share/turn0").exists());
}
