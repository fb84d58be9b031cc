"""The catalog: the models that workers found on their disks, and what can be had besides."""
