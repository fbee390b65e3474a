//! What differs from run to run is masked, so that outputs can be compared: ages, hashes, addresses, times, widths.

/// Masks one output, line by line, word by word. Runs of spaces become two: columns are as wide as their content.
pub fn masked(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        let indent: String = line.chars().take_while(|c| *c == ' ').collect();
        let words: Vec<String> = line.split_whitespace().map(word).collect();
        let spaced = line.trim().contains("  ");
        lines.push(format!("{}{}", indent, words.join(if spaced { "  " } else { " " })));
    }
    lines.join("\n")
}

fn word(word: &str) -> String {
    if is_age(word) {
        return "AGE".into();
    }
    if is_address(word) {
        return "IP".into();
    }
    // NAME-<template hash>-<suffix> and NAME-<template hash>.
    let parts: Vec<&str> = word.split('-').collect();
    let hash = |part: &str| {
        (8..=10).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && part.bytes().any(|b| b.is_ascii_digit())
    };
    let end: String = parts
        .last()
        .map_or("", |last| last)
        .chars()
        .skip_while(char::is_ascii_alphanumeric)
        .collect();
    let bare = |part: &str| part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned();
    match parts.as_slice() {
        [name @ .., middle, last] if hash(middle) && bare(last).len() == 5 && !name.is_empty() => {
            format!("{}-HASH-XXXXX{end}", name.join("-"))
        }
        [name @ .., last] if hash(&bare(last)) && !name.is_empty() => {
            format!("{}-HASH{end}", name.join("-"))
        }
        _ => word.into(),
    }
}

/// `5s`, `3m12s`, `2d`.
fn is_age(word: &str) -> bool {
    let mut digits = 0;
    let mut units = 0;
    for c in word.chars() {
        if c.is_ascii_digit() {
            digits += 1;
        } else if matches!(c, 's' | 'm' | 'h' | 'd') && digits != 0 {
            (digits, units) = (0, units + 1);
        } else {
            return false;
        }
    }
    units != 0 && digits == 0
}

fn is_address(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    parts.len() == 4 && parts.iter().all(|part| part.parse::<u8>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_from_run_to_run_is_masked() {
        let check = |text: &str, want: &str| assert_eq!(masked(text), want);
        check(
            "web-75588d8b7b-jf8zb   1/1     Running   0          9s",
            "web-HASH-XXXXX  1/1  Running  0  AGE",
        );
        check("NAME   READY   AGE\nweb    2/2     3m12s", "NAME  READY  AGE\nweb  2/2  AGE");
        check("replicaset.apps/web-75588d8b7b   2", "replicaset.apps/web-HASH  2");
        check(
            "deployment.apps/test-service-deploy created",
            "deployment.apps/test-service-deploy created",
        );
        check("pod/solo   10.42.0.7", "pod/solo  IP");
        check("  indented 5m", "  indented AGE");
    }
}
