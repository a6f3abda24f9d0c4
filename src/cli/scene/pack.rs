//! A pool for training outside of this program: one safetensors file, read by `tests/reference`.

use std::fs;
use std::path::Path;

use rayon::prelude::*;
use reca::scene::question::caption_requests;
use reca::scene::{CaptionRates, Engine, QuestionKind, SIZE, Scene, caption, question, tokenizer_json};
use reca::text::{EOS, Tokenizer};
use reca::train::pool::PoolConfig;
use reca::train::words::words_of;
use reca::{Error, Result};
use safetensors::{Dtype, tensor::TensorView};

use crate::drive::bar;

/// Scenes made in parallel at a time.
const CHUNK: u64 = 1024;

/// Captions and questions a scene: rows of its tables.
const DENSE: usize = 2;
const SPARSE: usize = 8;
const QUESTIONS: usize = 8;
/// Objects a scene, and what is said of each: its noun and what else is true of it; centre x, y and side in pixels.
const OBJECTS: usize = 4;
const FACTS: usize = 3;
/// Tokens a text, the rest is padding: captions and requests, questions with answers.
const TEXT: usize = 16;
const EXCHANGE: usize = 26;

/// Rows of tokens, each of the same length.
struct Table {
    name: &'static str,
    shape: Vec<usize>,
    tokens: Vec<i16>,
}

impl Table {
    /// `shape` is that of one scene.
    fn new(name: &'static str, shape: &[usize]) -> Self {
        Self { name, shape: shape.to_vec(), tokens: Vec::new() }
    }

    /// The next scene's rows; what they leave free stays 0.
    fn push(&mut self, rows: &[Vec<u32>]) -> Result<()> {
        let [count, length] = self.shape[..] else {
            return Err(Error::internal(format!("{} has no rows", self.name)));
        };
        if rows.len() > count || rows.iter().any(|row| row.len() > length) {
            return Err(Error::internal(format!("{} holds {count} rows of {length} a scene", self.name)));
        }
        let start = self.tokens.len();
        self.tokens.resize(start + count * length, 0);
        for (slot, row) in self.tokens[start..].chunks_mut(length).zip(rows) {
            for (to, from) in slot.iter_mut().zip(row) {
                *to = i16::try_from(*from).map_err(Error::internal)?;
            }
        }
        Ok(())
    }

    fn scenes(&self) -> usize {
        self.tokens.len() / self.shape.iter().product::<usize>()
    }

    fn bytes(&self) -> Vec<u8> {
        self.tokens.iter().flat_map(|token| token.to_le_bytes()).collect()
    }
}

/// What one scene adds.
struct Packed {
    pixels: Vec<u8>,
    /// In the order of the tables.
    rows: [Vec<Vec<u32>>; 6],
}

/// Writes `pack.safetensors` and `tokenizer.json` of a pool.
pub fn write(engine: &Engine, rates: CaptionRates, pool: PoolConfig, folder: &Path) -> Result<()> {
    let json = tokenizer_json(engine.world());
    let tokenizer = Tokenizer::from_json(json.as_bytes())?;
    let mut images = Vec::with_capacity(pool.size as usize * SIZE * SIZE * 3);
    let mut tables = [
        Table::new("dense", &[DENSE, TEXT]),
        Table::new("sparse", &[SPARSE, TEXT]),
        Table::new("questions", &[QUESTIONS, EXCHANGE]),
        // Of each question: tokens before the answer, and whether the answer is a caption (the first ones are).
        Table::new("prompts", &[2, QUESTIONS]),
        Table::new("words", &[OBJECTS, FACTS]),
        Table::new("boxes", &[OBJECTS, FACTS]),
    ];
    let bar = bar(pool.size, "scenes");
    for start in (0..pool.size).step_by(CHUNK as usize) {
        let made: Vec<Packed> = (start..pool.size.min(start + CHUNK))
            .into_par_iter()
            .map(|index| {
                let (scene, picture) = pool.sample(engine, index)?;
                let rows = rows(&scene, engine, rates, &tokenizer, (pool.seed, index))?;
                Ok(Packed { pixels: picture.into_raw(), rows })
            })
            .collect::<Result<_>>()?;
        for Packed { pixels, rows } in &made {
            images.extend_from_slice(pixels);
            tables.iter_mut().zip(rows).try_for_each(|(table, rows)| table.push(rows))?;
        }
        bar.inc(made.len() as u64);
    }
    bar.finish_and_clear();
    let mut templates = Table::new("templates", &[1, TEXT]);
    for request in caption_requests() {
        templates.push(&[tokenizer.encode(&request)?])?;
    }

    let mut tensors = vec![("images", Dtype::U8, vec![pool.size as usize, SIZE, SIZE, 3], images)];
    for table in tables.iter().chain([&templates]) {
        let shape = [table.scenes()].into_iter().chain(table.shape.iter().copied()).collect();
        tensors.push((table.name, Dtype::I16, shape, table.bytes()));
    }
    let views = tensors
        .iter()
        .map(|(name, kind, shape, bytes)| {
            Ok((*name, TensorView::new(*kind, shape.clone(), bytes).map_err(Error::internal)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let path = folder.join("pack.safetensors");
    safetensors::serialize_to_file(views, None, &path).map_err(|e| Error::bad_input(e).at(path.display()))?;
    let path = folder.join("tokenizer.json");
    fs::write(&path, json).map_err(|e| Error::bad_input(e).at(path.display()))
}

/// A scene's rows of every table.
fn rows(
    scene: &Scene,
    engine: &Engine,
    rates: CaptionRates,
    tokenizer: &Tokenizer,
    (seed, index): (u64, u64),
) -> Result<[Vec<Vec<u32>>; 6]> {
    let encode =
        |texts: Vec<String>| texts.iter().map(|text| tokenizer.encode(text)).collect::<Result<Vec<_>>>();
    let told = caption::silent(scene, engine.split());
    let (mut exchanges, mut lengths, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
    for asked in question::questions(scene, seed, index) {
        let mut tokens = tokenizer.encode(&asked.question)?;
        lengths.push(tokens.len() as u32);
        kinds.push(u32::from(asked.kind == QuestionKind::Caption));
        tokens.extend(tokenizer.encode(&asked.answer)?);
        tokens.push(EOS);
        exchanges.push(tokens);
    }
    Ok([
        encode(caption::dense(scene, seed, index))?,
        encode(caption::sparse(&told, rates, SPARSE, seed, index))?,
        exchanges,
        vec![lengths, kinds],
        words_of(scene, tokenizer)?,
        scene
            .objects
            .iter()
            .map(|object| [object.cx, object.cy, object.size].map(|v| v as u32).to_vec())
            .collect(),
    ])
}
