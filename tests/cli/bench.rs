//! Alignment measured: the bench's table, and the probe set. On the shipped model, whose scorer they need.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;

use super::{Desk, Run};

const FEW: [&str; 6] = ["--count", "8", "--steps", "2", "--batch", "4"];

fn shipped(desk: &Desk, arguments: &[&str]) -> Run {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("www/models/mini");
    let at = arguments.iter().position(|word| *word == "--").unwrap_or(arguments.len());
    desk.bare(&[&arguments[..at], &["--model", model.to_str().unwrap()], &arguments[at..]].concat())
}

#[test]
fn the_bench_fills_a_table_and_goes_on_where_it_stopped() {
    let desk = Desk::new();
    let bench = |per_category: &str, row: &str| {
        let small = ["--seeds", "1", "--pictures", "1", "--jobs", "2", "--per-category", per_category];
        let options = [&["bench", "reca", "--out", "o", "--rows", row][..], &small, &["--"], &FEW];
        shipped(&desk, &options.concat())
    };
    let first = bench("1", "shuffled");
    assert_eq!(first.err.matches("reca align").count(), 1, "{}", first.err);
    let table = first.ok();
    assert!(table.contains("| base |") && table.contains("| RecA, another image's embeddings |"), "{table}");
    assert!(table.contains("is the base's, bit by bit"), "{table}");
    assert_eq!(fs::read_to_string(desk.path("o/table.md")).unwrap(), table);
    assert!(desk.path("o/shuffled-0/model/model.safetensors").exists());

    let again = bench("1", "shuffled");
    assert!(!again.err.contains("reca align") && !again.err.contains("reca eval"), "{}", again.err);
    assert_eq!(again.ok(), table);
    // A row whose model is there is only evaluated.
    fs::remove_file(desk.path("o/shuffled-0/report.json")).unwrap();
    let evaluated = bench("1", "shuffled");
    assert!(
        !evaluated.err.contains("reca align") && evaluated.err.contains("reca eval"),
        "{}",
        evaluated.err
    );
    assert_eq!(evaluated.ok(), table);
    bench("2", "shuffled").fails(1, &["base-0", "other options", "another --out"]);
    for (given, said) in [("--pool", "row reca-open has its own"), ("--seed=5", "every row has its own")] {
        let options = ["bench", "reca", "--out", "p", "--rows", "reca-open", "--", given, "strict"];
        shipped(&desk, &options).fails(1, &[given.split('=').next().unwrap(), said]);
    }
    bench("1", "magic").fails(1, &["no row is called \"magic\"", "sft-sparse-reca"]);
}

#[test]
fn the_mean_of_seeds_is_a_row_of_its_own() {
    let desk = Desk::new();
    let bench = |seeds: &str| {
        let small = ["--pictures", "1", "--jobs", "2", "--per-category", "1", "--mean", "--seeds", seeds];
        let options = [&["bench", "reca", "--out", "o", "--rows", "sft-sparse"][..], &small, &["--"], &FEW];
        shipped(&desk, &options.concat())
    };
    let run = bench("2");
    assert_eq!(run.err.matches("reca align").count(), 2, "{}", run.err);
    assert_eq!(run.err.matches("reca export --average").count(), 1, "{}", run.err);
    let table = run.ok();
    assert!(table.contains("| captions by the base's own rule: the mean of 2 seeds' weights |"), "{table}");
    let bytes = |row: &str| fs::read(desk.path(&format!("o/{row}/model/model.safetensors"))).unwrap();
    assert!(bytes("sft-sparse-mean-of-2-0") != bytes("sft-sparse-0"));
    assert!(bytes("sft-sparse-mean-of-2-0") != bytes("sft-sparse-1"));
    bench("1").fails(1, &["--mean", "--seeds 2"]);
}

#[test]
fn a_probe_set_keeps_the_best_expert() {
    let desk = Desk::new();
    // Ruinous, so that the base is best; the end is looked at, whether N divides it or not.
    let ruinous = ["--learning-rate", "0.03", "--lambda-t2i", "0", "--probe-every", "2", "--json"];
    let options =
        [&["align", "--out", "o", "--count", "8", "--steps", "5", "--batch", "4"][..], &ruinous].concat();
    let run = shipped(&desk, &options);
    assert_eq!(run.err.matches("probes").count(), 4, "{}", run.err);
    assert!(run.err.contains("the model is the base"), "{}", run.err);
    let printed: serde_json::Value = serde_json::from_str(&run.ok()).unwrap();
    assert_eq!((&printed["steps"], &printed["kept_step"]), (&5.into(), &0.into()));
    assert_eq!(desk.files("o"), ["log.jsonl", "model", "probes.jsonl"]);
    let looks = fs::read_to_string(desk.path("o/probes.jsonl")).unwrap();
    let steps: Vec<u64> = looks
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [0, 2, 4, 5]);
    assert_eq!(changed(&desk.path("o/model")), [""; 0]);
}

#[test]
fn the_weights_that_a_model_comes_with_change_its_drawing_alone() {
    let desk = Desk::new();
    shipped(&desk, &["export", "--aligned", "--out", "aligned"]).ok();
    let names = changed(&desk.path("aligned"));
    assert!(!names.is_empty() && names.iter().all(|name| name.starts_with("generation.")), "{names:?}");
    let drawn = |folder: &str, options: &[&str]| {
        shipped(&desk, &[&["generate", "a red car", "--steps", "1", "--out", folder], options].concat()).ok();
        fs::read(desk.path(folder).join(&desk.files(folder)[0])).unwrap()
    };
    assert!(drawn("base", &[]) != drawn("with", &["--aligned"]));
    desk.reca(&["generate", "a red car", "--out", "none", "--aligned"]).fails(1, &["aligned.safetensors"]);
}

/// Names of the tensors in which a folder's weights are not the shipped base's.
fn changed(folder: &Path) -> Vec<String> {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("www/models/mini");
    let [base, other] = [&base, folder].map(|folder| fs::read(folder.join("model.safetensors")).unwrap());
    let [base, other] = [&base, &other].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    let tensors = base.iter().filter(|(name, tensor)| other.tensor(name).unwrap().data() != tensor.data());
    tensors.map(|(name, _)| name.to_owned()).collect()
}
