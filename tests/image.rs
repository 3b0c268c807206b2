//! The recipe of the container image, as far as it can be checked without building it.

use std::path::Path;

#[test]
fn the_image_holds_the_binary_that_the_recipe_builds_and_runs_it_without_rights() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let recipe = std::fs::read_to_string(root.join("Dockerfile")).unwrap();
    let lines = |instruction: &str| -> Vec<Vec<String>> {
        let lines = recipe.lines().filter_map(|line| line.strip_prefix(instruction)?.strip_prefix(' '));
        lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let ignored = std::fs::read_to_string(root.join(".dockerignore")).unwrap();
    let (copied, from_build): (Vec<_>, Vec<_>) = lines("COPY").into_iter().partition(|line| !line[0].starts_with("--"));
    for source in copied.iter().flat_map(|line| &line[..line.len() - 1]) {
        assert!(root.join(source).exists(), "{source} is copied and does not exist");
        assert!(
            ignored.lines().any(|line| line == format!("!{}", source.trim_start_matches("./"))),
            "{source} is ignored"
        );
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_worker")).file_name().unwrap().to_str().unwrap();
    let built = format!("/build/target/release/{binary}");
    assert_eq!(from_build, [["--from=build", &built, &format!("/usr/local/bin/{binary}")]]);
    assert!(recipe.contains(&format!("cargo build --release --locked --no-default-features --bin {binary}\n")));
    assert!(recipe.contains(&format!("CMD [\"{binary}\", \"--poll\"]\n")));
    assert_eq!(lines("USER"), [["nonroot"]]);
    for base in lines("FROM") {
        let (_, tag) = base[0].rsplit_once(':').unwrap_or_else(|| panic!("{} has no tag", base[0]));
        assert_ne!(tag, "latest", "{}", base[0]);
    }
    let toolchain = std::fs::read_to_string(root.join("rust-toolchain.toml")).unwrap();
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap().trim_matches('"');
    assert!(lines("FROM")[0][0].starts_with(&format!("rust:{channel}-")), "the toolchain is {channel}");
}
