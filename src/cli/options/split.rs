//! A `-o` argument as a list of options.

use super::OptionError;

/// Splits at commas as libfuse does: `\,` is a comma, `\\` a backslash, `\ooo` an octal byte, and a
/// backslash before anything else vanishes. Empty options are passed over.
pub(super) fn split(list: &str) -> Result<Vec<String>, OptionError> {
    let mut options = vec![Vec::new()];
    let mut rest = list.as_bytes();
    while let [first, tail @ ..] = rest {
        let current = options.last_mut().expect("it starts with one and only grows");
        rest = match rest {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] => {
                current.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                tail
            }
            [b'\\', escaped, tail @ ..] => {
                current.push(*escaped);
                tail
            }
            [b',', tail @ ..] => {
                options.push(Vec::new());
                tail
            }
            _ => {
                current.push(*first);
                tail
            }
        };
    }
    options
        .into_iter()
        .filter(|option| !option.is_empty())
        .map(|option| {
            String::from_utf8(option).map_err(|error| OptionError::NotText {
                option: String::from_utf8_lossy(error.as_bytes()).into_owned(),
            })
        })
        .collect()
}
