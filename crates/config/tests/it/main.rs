//! The two files of an installation: read, checked, reloaded, edited.

#[cfg(test)]
mod checks;
#[cfg(test)]
mod edit;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod live;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod world;
