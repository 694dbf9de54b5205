//! `fusewire study run --list`: the presets, or what a study would do.

use serde_json::{Value, json};

use super::super::file::cells::Planned;
use super::super::file::systems::PlannedSystem;
use super::super::file::{StudyFile, parse, presets};
use crate::study::StudyError;

/// All presets, as text or JSON.
pub(super) fn presets(as_json: bool) -> Result<String, StudyError> {
    let files: Vec<StudyFile> =
        presets::PRESETS.iter().map(|(name, text)| parse(text, name)).collect::<Result<_, _>>()?;
    if as_json {
        let one = |file: &StudyFile| json!({ "name": file.name, "title": file.title, "minutes": file.minutes });
        return Ok(format!("{:#}", Value::from_iter(files.iter().map(one))));
    }
    let line = |file: &StudyFile| {
        let minutes = file.minutes.map_or_else(String::new, |m| format!("about {m} min"));
        format!("{:10} {minutes:13} {}", file.name, file.title)
    };
    let lines: Vec<String> = files.iter().map(line).collect();
    Ok(format!(
        "{}\n\nEach is a commented file in scripts/studies/, to be copied and changed.",
        lines.join("\n")
    ))
}

/// Cells and systems of one study.
pub(super) fn study(
    file: &StudyFile,
    cells: &[Planned],
    systems: &[PlannedSystem],
    as_json: bool,
) -> String {
    if as_json {
        let cells: Vec<_> = cells.iter().map(|planned| &planned.cell).collect();
        let systems: Vec<_> = systems
            .iter()
            .map(|system| json!({ "system": system.system, "missing": system.missing() }))
            .collect();
        let document = json!({
            "name": file.name, "title": file.title, "rounds": file.rounds,
            "cells": cells, "systems": systems,
        });
        return format!("{document:#}");
    }
    let mut lines = vec![format!("{}: {}", file.name, file.title), String::new()];
    for system in systems {
        let missing = system.missing().map_or_else(String::new, |why| format!(" ({why})"));
        let words = system.system.arguments.join(" ");
        lines.push(format!("system {:16} {words}{missing}", system.system.id));
    }
    lines.push(String::new());
    for Planned { cell, .. } in cells {
        lines.push(format!("cell   {:32} {} ({})", cell.id, cell.title, cell.cache));
    }
    lines.join("\n")
}
