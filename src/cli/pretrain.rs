//! `reca pretrain`: trains a model from nothing, stage by stage.

mod contrastive;
mod stages;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;
use image::RgbImage;
use pollster::block_on;
use reca::scene::{Engine, Scene};
use reca::train::encoder::EncoderModule;
use reca::train::pool::PoolConfig;
use reca::train::recipe::{Recipe, StageName};
use reca::train::texts::Texts;
use reca::train::understanding::UnderstandingModule;
use reca::train::{checkpoint, export};
use reca::umm::Umm;
use reca::{Error, Result};

use crate::common::Device as DeviceChoice;
use crate::drive::write_whole;
use crate::scene::recipe;

const FILES: &str = "\
Below --out:
  STAGE.safetensors             a finished stage's weights; the stage is not trained again
  STAGE.checkpoint.safetensors  a stage in training, saved every minute; the next call goes on from it
  log.jsonl                     stage, step, loss, learning rate, samples per second, seconds
  samples/                      what the stages that draw can do: originals above, the model's below
  model/                        the model folder, once all stages are finished
  clip/, siglip/                an encoder each, in the Hugging Face layout
  zero-shot.jsonl               what these two tell apart by texts alone, by step: shares of nouns, colours, sides
A call may be stopped at any time, and goes on where it was with the same command.

\
The stages clip and siglip belong to no model and are trained only where they are named: small encoders of the
official architectures, by captions of scenes, for reca embed, zero-shot and align --encoder.";

/// Train a model from nothing
#[derive(clap::Args)]
#[command(after_help = FILES)]
pub struct Args {
    /// Recipe: a name that comes with the program (nano, mini, tiny), or a file
    #[arg(long, default_value = "mini")]
    recipe: String,
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Train these stages only: encoder, autoencoder, understanding, generation, connector; clip, siglip
    #[arg(long, value_name = "NAME", num_args = 1.., value_parser = stage)]
    stage: Vec<StageName>,
    /// Throw away what earlier calls have trained of the stages
    #[arg(long)]
    fresh: bool,
    /// Steps of every stage, instead of the recipe's
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Seed of weights, batches and noise, instead of the recipe's
    #[arg(long)]
    seed: Option<u64>,
    /// Where to compute
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    device: DeviceChoice,
}

fn stage(name: &str) -> std::result::Result<StageName, String> {
    let mut all = StageName::ALL.into_iter().chain(StageName::CONTRASTIVE);
    all.clone().find(|stage| stage.as_str() == name).ok_or_else(|| {
        let first = all.next().map_or("", StageName::as_str);
        all.fold(format!("there are {first}"), |names, stage| names + ", " + stage.as_str())
    })
}

pub fn run(args: Args) -> Result<()> {
    let mut recipe = recipe(&args.recipe)?;
    recipe.seed = args.seed.unwrap_or(recipe.seed);
    if let Some(steps) = args.steps {
        recipe.stages.trainings().into_iter().for_each(|training| training.steps = steps);
    }
    fs::create_dir_all(&args.out).map_err(|e| Error::bad_input(e).at(args.out.display()))?;
    let device = args.device.open()?;
    let mut session = Session {
        umm: recipe.init(&device),
        engine: Engine::new(recipe.world.clone())?,
        texts: Texts::new(recipe.tokenizer()?),
        selected: if args.stage.is_empty() { StageName::ALL.to_vec() } else { args.stage },
        recipe,
        out: args.out,
        device,
        done: Vec::new(),
        pool: None,
    };
    if args.fresh {
        session.forget()?;
    }
    for stage in StageName::CONTRASTIVE {
        if session.selected.contains(&stage) {
            session.stage(stage)?;
        }
    }
    if !StageName::ALL.iter().any(|stage| session.selected.contains(stage)) {
        return Ok(());
    }
    for stage in StageName::ALL {
        session.stage(stage)?;
    }
    session.finish()
}

type Samples = (Arc<[Scene]>, Arc<[RgbImage]>);

struct Session {
    recipe: Recipe,
    out: PathBuf,
    selected: Vec<StageName>,
    device: Device,
    engine: Engine,
    texts: Texts,
    /// With the parts of the stages in `done`.
    umm: Umm,
    done: Vec<StageName>,
    /// The pool made last, which the next stage often shares.
    pool: Option<(PoolConfig, Samples)>,
}

impl Session {
    fn part(&self, stage: StageName) -> PathBuf {
        self.out.join(format!("{}.safetensors", stage.as_str()))
    }

    fn checkpoint(&self, stage: StageName) -> PathBuf {
        self.out.join(format!("{}.checkpoint.safetensors", stage.as_str()))
    }

    /// Removes what there is of the selected stages.
    fn forget(&self) -> Result<()> {
        for stage in &self.selected {
            for path in [self.part(*stage), self.checkpoint(*stage)].iter().filter(|path| path.exists()) {
                fs::remove_file(path).map_err(|e| Error::bad_input(e).at(path.display()))?;
            }
        }
        Ok(())
    }

    /// Brings a stage's part into the model: from its file, or by training it if it is selected.
    fn stage(&mut self, name: StageName) -> Result<()> {
        let umm = self.umm.clone();
        match name {
            StageName::Encoder => {
                let part = self.obtain(name, EncoderModule::of(&umm), Self::encoder)?;
                self.umm = part.map_or(umm.clone(), |part| part.put_into(umm));
            }
            StageName::Autoencoder => {
                let part = self.obtain(name, umm.autoencoder, Self::autoencoder)?;
                self.umm.autoencoder = part.unwrap_or(self.umm.autoencoder.clone());
            }
            StageName::Understanding => {
                let part = self.obtain(name, UnderstandingModule::of(&umm), Self::understanding)?;
                self.umm = part.map_or(umm.clone(), |part| part.put_into(umm));
            }
            StageName::Generation => {
                let part = self.obtain(name, umm.generation, Self::generation)?;
                self.umm.generation = part.unwrap_or(self.umm.generation.clone());
            }
            StageName::Connector => {
                let part = self.obtain(name, umm.connector, Self::connector)?;
                self.umm.connector = part.unwrap_or(self.umm.connector.clone());
            }
            StageName::Clip | StageName::Siglip => self.contrastive(name)?,
        }
        Ok(())
    }

    /// The stage's part; `None` if it is neither there nor selected.
    fn obtain<M: Module>(
        &mut self,
        stage: StageName,
        template: M,
        train: impl FnOnce(&mut Self) -> Result<M>,
    ) -> Result<Option<M>> {
        let (path, run) = (self.part(stage), self.recipe.run(stage)?);
        if !path.exists() {
            if !self.selected.contains(&stage) {
                return Ok(None);
            }
            if let Some(missing) = stage.needs().iter().find(|needed| !self.done.contains(needed)) {
                let message = format!(
                    "not there, but {} stands on it; add --stage {}",
                    stage.as_str(),
                    missing.as_str()
                );
                return Err(Error::bad_input(message).at(self.part(*missing).display()));
            }
            let trained = train(self)?;
            write_whole(&path, &block_on(checkpoint::save_part(&trained, &run, 0))?)?;
            let checkpoint = self.checkpoint(stage);
            fs::remove_file(&checkpoint).map_err(|e| Error::bad_input(e).at(checkpoint.display()))?;
        }
        let bytes = fs::read(&path).map_err(|e| Error::bad_input(e).at(path.display()))?;
        let part = checkpoint::load_part(template, &run, &bytes).map_err(|e| {
            e.at(format!("{} (--fresh --stage {} trains it anew)", path.display(), stage.as_str()))
        })?;
        self.done.push(stage);
        Ok(Some(part))
    }

    /// Writes the model folder if every stage is finished.
    fn finish(&self) -> Result<()> {
        let missing: Vec<_> = StageName::ALL.into_iter().filter(|stage| !self.done.contains(stage)).collect();
        if !missing.is_empty() {
            let names: Vec<_> = missing.into_iter().map(StageName::as_str).collect();
            eprintln!("still to be trained before there is a model: {}", names.join(", "));
            return Ok(());
        }
        let folder = self.out.join("model");
        for (name, bytes) in block_on(export::model_files(&self.recipe, &self.umm))?.with_manifest()? {
            write_whole(&folder.join(name), &bytes)?;
        }
        println!("{}", folder.display());
        Ok(())
    }
}
