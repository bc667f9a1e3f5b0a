"""Models on the Hugging Face Hub: a folder with weights, facts and model card; pushed, and pulled by its address."""
