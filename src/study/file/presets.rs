//! The studies that come with the program. They are files like those of a user, and show how these
//! are written.

/// Name and text of each.
pub(crate) const PRESETS: [(&str, &str); 9] = [
    ("quick", include_str!("../../../scripts/studies/quick.toml")),
    ("ladder", include_str!("../../../scripts/studies/ladder.toml")),
    ("metadata", include_str!("../../../scripts/studies/metadata.toml")),
    ("jobs", include_str!("../../../scripts/studies/jobs.toml")),
    ("fast17", include_str!("../../../scripts/studies/fast17.toml")),
    ("tail", include_str!("../../../scripts/studies/tail.toml")),
    ("scale", include_str!("../../../scripts/studies/scale.toml")),
    ("locality", include_str!("../../../scripts/studies/locality.toml")),
    ("locality-gfarm", include_str!("../../../scripts/studies/locality-gfarm.toml")),
];

/// The text of the preset of this name.
pub(crate) fn find(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::super::{cells, parse, systems};
    use super::*;

    #[test]
    fn every_preset_is_a_study_of_its_own_name_that_announces_its_time() {
        for (name, text) in PRESETS {
            let file = parse(text, name).expect(name);
            assert_eq!(file.name, name);
            assert!(file.minutes.is_some(), "{name} announces no time");
            assert!(!cells::expand(&file).expect(name).is_empty());
            assert!(systems::resolve(&file).expect(name).len() > 2, "{name}");
        }
        assert!(find("quick").is_some() && find("quack").is_none());
    }
}
