//! Users and questions in, yes or no out.
