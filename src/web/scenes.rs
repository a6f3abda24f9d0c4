//! Pictures that the data engine makes in the tab.

use std::rc::Rc;

use wasm_bindgen::prelude::*;
use web_sys::ImageData;

use super::{Runtime, types::picture};
use crate::{
    Error, Result,
    scene::{Engine, Pool, World, caption, sheet},
    train::pool::PoolConfig,
};

/// Captions and questions of a scene do not depend on what else is made, as little as its pixels do.
#[wasm_bindgen]
impl Runtime {
    /// Opens the world that a model was trained in: `world.json` and the sheet of its drawings.
    ///
    /// # Errors
    /// `weights_format`, `bad_input`.
    #[wasm_bindgen(js_name = openWorld)]
    pub fn open_world(&self, world: &[u8], sprites: &[u8]) -> Result<()> {
        let world: World = serde_json::from_slice(world)
            .map_err(|e| Error::weights_format(format!("world.json is not a world: {e}")))?;
        self.world.replace(Some(Rc::new(sheet::read(world, sprites)?)));
        Ok(())
    }

    /// The picture of scene `index` of a pool (`open` or `strict`) and seed, of some nouns or of all.
    pub fn scene(&self, pool: &str, seed: u64, index: u64, nouns: Option<Vec<String>>) -> Result<ImageData> {
        let pool = PoolConfig { kind: named(pool)?, seed, size: 0, two_objects: None };
        picture(&pool.sample(self.engine_of(nouns)?.as_ref(), index)?.1)
    }

    /// What that scene shows, every colour and place named.
    #[wasm_bindgen(js_name = sceneCaption)]
    pub fn scene_caption(
        &self,
        pool: &str,
        seed: u64,
        index: u64,
        nouns: Option<Vec<String>>,
    ) -> Result<String> {
        let scene = self.engine_of(nouns)?.scene(named(pool)?, seed, index)?;
        caption::dense(&scene, seed, index).into_iter().next().ok_or_else(|| Error::internal("no caption"))
    }
}

impl Runtime {
    pub(super) fn engine(&self) -> Result<Rc<Engine>> {
        self.world.borrow().clone().ok_or_else(|| Error::bad_input("no world is opened yet"))
    }

    /// The engine, for some of the world's nouns.
    pub(super) fn engine_of(&self, nouns: Option<Vec<String>>) -> Result<Rc<Engine>> {
        let engine = self.engine()?;
        nouns.map_or(Ok(engine.clone()), |nouns| Ok(Rc::new(engine.only(&nouns)?)))
    }
}

/// The pool of a name.
pub(super) fn named(name: &str) -> Result<Pool> {
    Pool::ALL.into_iter().find(|pool| pool.name() == name).ok_or_else(|| {
        Error::bad_input(format!("{name:?} is no pool; there are {}", Pool::ALL.map(Pool::name).join(", ")))
    })
}
