//! `reca pretrain`: what it writes, and how it goes on.

use std::fs;
use std::process::Command;

use burn::tensor::Device;
use reca::{
    Pipeline,
    train::{
        checkpoint,
        recipe::{Recipe, StageName},
    },
    weights::ModelFiles,
};

fn reca(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_reca")).args(arguments).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_command_line_trains_a_model_folder_and_goes_on_where_it_was() {
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("new");
    let out = folder.to_str().unwrap();
    let base = ["pretrain", "--recipe", "nano", "--device", "cpu", "--steps", "12", "--out", out];
    let call = |more: &[&str]| reca(&[&base, more].concat());
    let path = |name: &str| folder.join(name);

    let (success, message) = call(&["--stage", "understanding"]);
    assert!(
        !success && message.contains("encoder.safetensors") && message.contains("--stage encoder"),
        "{message}"
    );
    let (success, message) = call(&["--stage", "encoder", "autoencoder"]);
    assert!(success && message.contains("understanding, generation, connector"), "{message}");
    assert!(!path("model").exists() && !path("encoder.checkpoint.safetensors").exists());
    let encoder = fs::read(path("encoder.safetensors")).unwrap();
    let (success, message) = call(&[]);
    assert!(success, "{message}");
    assert_eq!(fs::read(path("encoder.safetensors")).unwrap(), encoder);

    let read = |name: &str| Ok(fs::read(path("model").join(name)).unwrap());
    let pipeline = Pipeline::new(&ModelFiles::read(read).unwrap(), &Device::flex()).unwrap();
    assert_eq!(pipeline.config.understanding.hidden_size, 32);
    let log = fs::read_to_string(path("log.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps =
        |stage| lines.iter().filter(|l| l["stage"] == stage).map(|l| l["step"].as_u64().unwrap()).collect();
    let (first, last): (Vec<u64>, Vec<u64>) = (steps("encoder"), steps("connector"));
    assert_eq!((first, last), (vec![10, 12], vec![10, 12]));
    for sheet in ["autoencoder", "generation", "connector"] {
        let sheet = image::open(path(&format!("samples/{sheet}-000012.png"))).unwrap();
        assert_eq!((sheet.width(), sheet.height()), (8 * 64, 2 * 64));
    }

    let mut recipe = Recipe::named("nano").unwrap();
    recipe.stages.trainings().into_iter().for_each(|training| training.steps = 12);
    let run = recipe.run(StageName::Connector).unwrap();
    let finished = fs::read(path("connector.safetensors")).unwrap();
    assert_eq!(checkpoint::describe(&finished).unwrap().0, run);
    fs::remove_file(path("connector.safetensors")).unwrap();
    fs::write(path("connector.checkpoint.safetensors"), b"half a file").unwrap();
    let (success, message) = call(&[]);
    assert!(
        !success && message.contains("connector.checkpoint.safetensors") && message.contains("--fresh"),
        "{message}"
    );
    let (success, message) = call(&["--fresh", "--stage", "connector"]);
    assert!(success, "{message}");
    let again = fs::read(path("connector.safetensors")).unwrap();
    assert!(again == finished, "the same seed gives the same bits");
    assert_eq!(fs::read_to_string(path("log.jsonl")).unwrap().lines().count(), 10);

    let (success, message) = reca(&[&base[..5], &["--steps", "13", "--out", out]].concat());
    assert!(!success && message.contains("other settings"), "{message}");
}
