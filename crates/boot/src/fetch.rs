//! x
/// x
#[derive(Debug, thiserror::Error)]
pub enum FetchError {}
impl FetchError {
    /// x
    pub fn hint(&self) -> Option<String> {
        None
    }
}
