// Light or dark, before anything is drawn: as chosen earlier, else as the system has it. Runs by itself, before the modules.

{
  const chosen = localStorage.getItem('theme')
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen
}
